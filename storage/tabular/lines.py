"""The physical lines of a text file: strictly UTF-8, bounded in length."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storage.tabular.content import open_content
from storage.tabular.formats import LINE_BYTES_MAX, Compression


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


def read_lines(path: Path, file: str, *, compression: Compression | None, max_bytes: int) -> Iterator[Line]:
    """Lines split at LF only, as the csv module wants them; a byte order mark at the start is dropped.

    Raises BadLine, and InvalidInput as `open_content` does.
    """
    with open_content(path, file, compression=compression, max_bytes=max_bytes) as stream:
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
