"""Forms with a file (multipart/form-data), as OpenAI's clients send them: the file goes to the spool as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.errors import ApiError
from api.parts import Parts
from api.streaming import Received, Spooled, spooled

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

#: Beside the file.
_FIELDS_MAX, _FIELD_BYTES_MAX = 20, 10_000
#: Of a form around its file: boundaries, headers and the other fields.
_AROUND_BYTES_MAX = 64 * 1024


@dataclass(frozen=True)
class Form:
    """The fields, and the one file."""

    fields: dict[str, str]
    file_name: str
    file: Received


@asynccontextmanager
async def received_form(request: Request, parts: Parts, name: str, *, bytes_max: int) -> AsyncIterator[Form]:
    """The form whose file is the field `name`; the file is gone afterwards.

    Raises ApiError: 400 for what is no such form, 413 beyond `bytes_max`; OSError (ENOSPC: disk full).
    """
    boundary = _boundary(request)
    with spooled(parts, bytes_max=bytes_max) as spool:
        reading = _Reading(name, spool)
        received = 0
        try:
            parser = MultipartParser(boundary, reading.callbacks())
            async for chunk in request.stream():
                received += len(chunk)
                if received > bytes_max + _AROUND_BYTES_MAX:
                    raise ApiError(413, f"The form is larger than {bytes_max:,} bytes, the limit of this server.")
                parser.write(chunk)
                await reading.flush()
            parser.finalize()
        except FormParserError as error:
            raise _wrong(f"The body is no form: {error}.") from error
        if not reading.ended:
            raise _wrong("The form breaks off before its end.")
        if reading.file_name is None:
            raise _wrong(f"The form has no file {name!r}.", param=name)
        fields = {field: _text(field, value) for field, value in reading.fields.items()}
        yield Form(fields, reading.file_name, await spool.received())


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", "").encode("latin-1"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise _wrong("Send the file in a form: Content-Type: multipart/form-data.")
    return boundary


def _text(name: str, value: bytearray) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise _wrong("It must be text in UTF-8.", param=name)
    return text


def _wrong(message: str, param: str | None = None) -> ApiError:
    return ApiError(400, message, code="invalid_form", param=param)


@dataclass
class _Reading:
    """What the parser has come across; `file` is the field that holds the file."""

    file: str
    spool: Spooled
    fields: dict[str, bytearray] = field(default_factory=dict)
    file_name: str | None = None
    ended: bool = False
    _header: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _disposition: bytes = b""
    #: The field that is being read; None: the file.
    _field: str | None = None
    #: Bytes of the file that are not in the spool yet.
    _waiting: bytearray = field(default_factory=bytearray)

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    async def flush(self) -> None:
        """What has come of the file goes to the spool."""
        if self._waiting:
            waiting, self._waiting = bytes(self._waiting), bytearray()
            await self.spool.add(waiting)

    def _begin(self) -> None:
        self._disposition = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name == self.file:
            if self.file_name is not None:
                raise _wrong("One file at a time.", param=name)
            self.file_name = options.get(b"filename", b"").decode("utf-8", "replace")
            self._field = None
            return
        if not name or name in self.fields or len(self.fields) >= _FIELDS_MAX:
            raise _wrong(f"The form has a field {name[:100]!r} too many.", param=name[:100] or None)
        self._field = name
        self.fields[name] = bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._waiting += data[start:end]
            return
        value = self.fields[self._field]
        value += data[start:end]
        if len(value) > _FIELD_BYTES_MAX:
            raise _wrong(f"It is longer than {_FIELD_BYTES_MAX:,} bytes.", param=self._field[:100])

    def _end(self) -> None:
        self.ended = True
