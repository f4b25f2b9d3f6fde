"""Rows of a JSON file that is one array: `[{...}, {...}]`, or `["...", "..."]`. Read element by element."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from storage.tabular.content import open_content
from storage.tabular.formats import LINE_BYTES_MAX, Compression, refusal
from storage.tabular.json_rows import DECODER, checked_row, unusable

#: Characters decoded at once; doubled as long as an element doesn't fit.
_CHUNK_CHARS = 256 * 1024
#: An error so near the end of what was read, in characters, may only mean that the element goes on behind it.
_NEAR_CHARS = 32
_SPACE = " \t\r\n"
_REMEDY = 'Write one array of objects, such as [{"text": "..."}, {"text": "..."}], or one object per line as .jsonl.'


def array_rows(path: Path, file: str, *, compression: Compression | None, max_bytes: int) -> Iterator[dict[str, Any]]:
    """Yields each object of the array; a text alone counts as {"text": ...}. Raises InvalidInput with the row."""
    with open_content(path, file, compression=compression, max_bytes=max_bytes) as stream:
        text = _Text(stream, file)
        if text.next_sign() != "[":
            raise refusal("the file doesn't hold an array.", file, _REMEDY)
        text.skip()
        row = 0
        empty = text.next_sign() == "]"
        while not empty:
            row += 1
            value = text.element(row)
            yield checked_row({"text": value} if isinstance(value, str) else value, f"element {row}", file, row)
            sign = text.next_sign()
            if sign not in (",", "]"):
                raise refusal(f"behind element {row} comes neither a comma nor a bracket.", file, _REMEDY, row)
            if sign == "]":
                break
            text.skip()
        text.skip()
        if text.next_sign():
            raise refusal("something comes behind the array.", file, _REMEDY)


class _Text:
    """The content as text that is read as far as the next element needs."""

    def __init__(self, stream: IO[bytes], file: str) -> None:
        self._stream = stream
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._ended = False

    def next_sign(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._read(_CHUNK_CHARS)

    def skip(self) -> None:
        """Passes the character that `next_sign` gave."""
        self._at += 1

    def element(self, row: int) -> Any:
        """The next value."""
        self.next_sign()
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._may_go_on(error, row):
                    raise refusal(f"element {row} is not JSON: {error.msg}.", self._file, _REMEDY, row) from error
                self._read(max(_CHUNK_CHARS, len(self._text) - self._at))
            except (ValueError, RecursionError) as error:
                raise unusable(error, f"element {row}", self._file, row) from error
            else:
                self._check_length(end - self._at, row)
                self._at = end
                return value

    def _check_length(self, chars: int, row: int) -> None:
        if chars > LINE_BYTES_MAX:
            limit = f"element {row} is longer than {LINE_BYTES_MAX // 1024**2} MiB."
            raise refusal(limit, self._file, "Check that every bracket and quote is closed.", row)

    def _may_go_on(self, error: json.JSONDecodeError, row: int) -> bool:
        if self._ended:
            return False
        self._check_length(len(self._text) - self._at, row)
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _NEAR_CHARS

    def _read(self, size: int) -> None:
        data = self._stream.read(size)
        self._ended = not data
        try:
            text = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            remedy = "Save the file as UTF-8 (for instance: iconv -f WINDOWS-1252 -t UTF-8)."
            raise refusal("the file is not UTF-8.", self._file, remedy) from error
        self._text = self._text[self._at :] + text
        self._at = 0
