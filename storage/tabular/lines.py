"""The physical lines of a text file, plain or gzipped: strictly UTF-8, bounded in length, size and compression."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from storage.tabular.formats import LINE_BYTES_MAX, refusal

#: A gzip file may grow by this factor; judged only after GRACE_BYTES, since short texts compress oddly.
RATIO_MAX = 1000
GRACE_BYTES = 10 * 1024 * 1024


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


def read_lines(path: Path, file: str, *, gzipped: bool, max_bytes: int) -> Iterator[Line]:
    """Lines split at LF only, as the csv module wants them; a byte order mark at the start is dropped.

    Raises BadLine; InvalidInput for a damaged or exploding gzip file and beyond `max_bytes` of (decompressed) content.
    """
    with path.open("rb") as raw, io.BufferedReader(_Bounded(raw, file, gzipped, max_bytes), 256 * 1024) as stream:
        number = 0
        while data := stream.readline(LINE_BYTES_MAX + 1):
            number += 1
            if number == 1:
                data = data.removeprefix(codecs.BOM_UTF8)
            yield Line(number, _decoded(data, number))


def _decoded(data: bytes, number: int) -> str:
    if len(data) > LINE_BYTES_MAX:
        raise BadLine(
            number,
            f"line {number} is longer than {LINE_BYTES_MAX // 1024**2} MiB.",
            "Check that the file has line ends and that every quote is closed.",
        )
    if b"\0" in data:
        remedy = "Remove it; if there are many, the file is binary or UTF-16: save it as UTF-8."
        raise BadLine(number, f"line {number} holds a NUL byte at byte {data.index(0) + 1}.", remedy)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadLine(
            number,
            f"line {number} is not UTF-8: byte {error.start + 1} is 0x{data[error.start]:02x}.",
            "Save the file as UTF-8 (for instance: iconv -f WINDOWS-1252 -t UTF-8).",
        ) from error


class _Bounded(io.RawIOBase):
    """The content of a file, decompressed if need be, which stops at the limits with an error for people."""

    def __init__(self, raw: IO[bytes], file: str, gzipped: bool, max_bytes: int) -> None:
        self._raw = raw
        self._source: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=raw) if gzipped else raw
        self._gzipped = gzipped
        self._file = file
        self._max_bytes = max_bytes
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            data = self._source.read(len(buffer))
        except EOFError as error:
            remedy = "Send it again; the upload or the copy was cut off."
            raise refusal("the gzip file ends too early.", self._file, remedy) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise refusal(f"the gzip file is damaged ({error}).", self._file, "Compress and send it again.") from error
        buffer[: len(data)] = data
        self._count += len(data)
        self._check_size()
        return len(data)

    def _check_size(self) -> None:
        if self._count > self._max_bytes:
            limit = f"the content is larger than {self._max_bytes:,} bytes."
            raise refusal(limit, self._file, "Split the table into several data sets.")
        if self._gzipped and self._count > GRACE_BYTES and self._count > RATIO_MAX * self._raw.tell():
            message = f"the gzip file grows to more than {RATIO_MAX} times its size."
            raise refusal(message, self._file, "Send the table uncompressed if it really repeats itself so much.")
