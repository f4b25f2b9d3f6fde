"""The physical lines of a text file: strictly in its encoding, bounded in length."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from jobspecs.dialect import LineEnd
from jobspecs.tables import Compression
from storage.tabular.content import open_content
from storage.tabular.formats import LINE_BYTES_MAX, refusal
from storage.tabular.stored import Stored

_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True)
class Line:
    """One physical line with its line end. `number` is 1-based."""

    number: int
    text: str


class BadLine(Exception):
    """A line that can't be text. The reader of rows knows which row it belongs to and turns this into InvalidInput."""

    def __init__(self, number: int, message: str, remedy: str) -> None:
        self.number = number
        self.message = message
        self.remedy = remedy
        super().__init__(message)


def read_lines(
    path: Stored,
    file: str,
    *,
    compression: Compression | None,
    max_bytes: int,
    encoding: str = "utf-8",
    line_end: LineEnd = "LF",
) -> Iterator[Line]:
    """Lines split at LF only, or at CR only, as the csv module wants them; a byte order mark at the start is dropped.

    Raises BadLine, and InvalidInput as `open_content` does.
    """
    with open_content(path, file, compression=compression, max_bytes=max_bytes) as content:
        # Bytes of these would be mistaken for line ends, so the whole text is made UTF-8 before it is split.
        wide = encoding.startswith(("utf-16", "utf-32"))
        stream: IO[bytes] = io.BufferedReader(_Recoded(content, encoding, file), _CHUNK_BYTES) if wide else content
        own = "utf-8" if wide else encoding
        for number, data in enumerate(_split(stream, line_end), start=1):
            if number == 1:
                data = data.removeprefix(codecs.BOM_UTF8)
            yield Line(number, _decoded(data, number, own))


def _split(stream: IO[bytes], line_end: LineEnd) -> Iterator[bytes]:
    """Lines with their ends; one that is too long is given in pieces that are too long as well."""
    if line_end != "CR":
        while data := stream.readline(LINE_BYTES_MAX + 1):
            yield data
        return
    rest = b""
    while chunk := stream.read(_CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\r")
        yield from (line + b"\r" for line in whole)
        if len(rest) > LINE_BYTES_MAX:
            break
    if rest:
        yield rest


class _Recoded(io.RawIOBase):
    """The content in UTF-8."""

    def __init__(self, content: IO[bytes], encoding: str, file: str) -> None:
        self._content = content
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._encoding = encoding
        self._file = file
        self._ready = b""
        self._lines = 1

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        chunk = b"more"
        while not self._ready and chunk:
            chunk = self._content.read(_CHUNK_BYTES)
            try:
                self._ready = self._decoder.decode(chunk, final=not chunk).encode()
            except UnicodeError as error:
                message = (
                    f"the file is not {self._encoding}: {getattr(error, 'reason', error)} after line {self._lines}."
                )
                raise refusal(message, self._file, "Save it as UTF-8, or name its encoding: --encoding.") from error
            self._lines += self._ready.count(b"\n")
        given, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)


def _decoded(data: bytes, number: int, encoding: str) -> str:
    if len(data) > LINE_BYTES_MAX:
        raise BadLine(
            number,
            f"line {number} is longer than {LINE_BYTES_MAX // 1024**2} MiB.",
            "Check that the file has line ends and that every quote is closed.",
        )
    if b"\0" in data:
        remedy = (
            "Remove it; if there are many, the file is binary or UTF-16: save it as UTF-8, or push --encoding utf-16."
        )
        raise BadLine(number, f"line {number} holds a NUL byte at byte {data.index(0) + 1}.", remedy)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        name = "UTF-8" if encoding == "utf-8" else encoding
        raise BadLine(
            number,
            f"line {number} is not {name}: byte {error.start + 1} is 0x{data[error.start]:02x}.",
            "Save the file as UTF-8 (for instance: iconv -f WINDOWS-1252 -t UTF-8), or name its encoding: --encoding.",
        ) from error
