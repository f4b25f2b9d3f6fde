"""The text of a JSON file, taken value by value: never more of it is held than the longest value needs."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from storage.tabular.formats import LINE_BYTES_MAX, refusal
from storage.tabular.json_rows import DECODER, unusable

#: Characters decoded at once; doubled as long as a value doesn't fit.
_CHUNK_CHARS = 256 * 1024
#: An error so near the end of what was read, in characters, may only mean that the value goes on behind it.
_NEAR_CHARS = 32
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_COMMA = "Remove the comma before the closing bracket."
_NO_SPACE = re.compile(r"[^ \t\r\n]")
REMEDY = 'Write one array of objects, such as [{"text": "..."}, {"text": "..."}], or one object per line as .jsonl.'


class JsonText:
    """The content as text that is read as far as the next value needs. `place` is what errors call that value."""

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
            # Sign by sign, 40 MB of spaces take 3 s.
            sign = _NO_SPACE.search(self._text, self._at)
            if sign is not None:
                self._at = sign.start()
                return sign[0]
            self._at = len(self._text)
            if self._ended:
                return ""
            self._read(_CHUNK_CHARS)

    def skip(self) -> None:
        """Passes the character that `next_sign` gave."""
        self._at += 1

    def value(self, place: str, row: int | None = None) -> Any:
        """The next value."""
        return self._decoded(place, row)[0]

    def source(self, place: str, row: int | None = None) -> str:
        """The next value as it is written, on one line."""
        return self._decoded(place, row)[1].replace("\n", " ").replace("\r", " ")

    def elements(self, what: str = "element") -> Iterator[int]:
        """Numbers, from 1 on, of the elements of the array that begins here; who iterates takes each of them."""
        self._expect("[", f"the {what}s are no array.")
        number = 0
        while self._goes_on(number == 0, "]", f"{what} {number}", number or None):
            number += 1
            yield number

    def members(self, what: str = "the object") -> Iterator[str]:
        """Keys of the object that begins here; who iterates takes their values. Raises for one that comes twice."""
        self._expect("{", f"{what} is no object.")
        seen: set[str] = set()
        last = ""
        while self._goes_on(not seen, "}", f"the value of {last!r}", None):
            if self.next_sign() != '"':
                raise refusal(f"{what} has a key that is no text.", self._file, REMEDY)
            last = str(self.value("a key"))
            if last in seen:
                raise refusal(f"the key {last!r} appears twice.", self._file, "Rename or remove one of them.")
            seen.add(last)
            self._expect(":", f"no colon comes behind the key {last!r}.")
            yield last

    def end(self, what: str, remedy: str = REMEDY) -> None:
        """Raises InvalidInput unless nothing comes any more."""
        if self.next_sign():
            raise refusal(f"something comes behind the {what}.", self._file, remedy)

    def _goes_on(self, first: bool, closing: str, behind: str, row: int | None) -> bool:
        """Whether another element or member comes; passes the comma or the bracket."""
        sign = self.next_sign()
        if first and sign != closing:
            return True
        if sign not in (",", closing):
            raise refusal(f"behind {behind} comes neither a comma nor a bracket.", self._file, REMEDY, row)
        self.skip()
        if sign == "," and self.next_sign() == closing:
            row = None if row is None else row + 1
            what = "the next member" if row is None else f"element {row}"
            raise refusal(f"{what} is not JSON: a comma stands behind {behind}, and nothing.", self._file, _COMMA, row)
        return sign == ","

    def _expect(self, sign: str, message: str) -> None:
        if self.next_sign() != sign:
            raise refusal(message, self._file, REMEDY)
        self.skip()

    def _decoded(self, place: str, row: int | None) -> tuple[Any, str]:
        self.next_sign()
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._may_go_on(error, place, row):
                    raise refusal(f"{place} is not JSON: {error.msg}.", self._file, REMEDY, row) from error
                self._read(max(_CHUNK_CHARS, len(self._text) - self._at))
            except (ValueError, RecursionError) as error:
                raise unusable(error, place, self._file, row) from error
            else:
                if end == len(self._text) and not self._ended:
                    # A number may go on behind what was read.
                    self._read(_CHUNK_CHARS)
                    continue
                self._check_length(end - self._at, place, row)
                source = self._text[self._at : end]
                self._at = end
                return value, source

    def _check_length(self, chars: int, place: str, row: int | None) -> None:
        if chars > LINE_BYTES_MAX:
            limit = f"{place} is longer than {LINE_BYTES_MAX // 1024**2} MiB."
            raise refusal(limit, self._file, "Check that every bracket and quote is closed.", row)

    def _may_go_on(self, error: json.JSONDecodeError, place: str, row: int | None) -> bool:
        if self._ended:
            return False
        self._check_length(len(self._text) - self._at, place, row)
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _NEAR_CHARS

    def _read(self, size: int) -> None:
        data = self._stream.read(size)
        self._ended = not data
        try:
            text = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            wide = data.startswith(_WIDE_MARKS)
            remedy = f"Save the file as UTF-8 (for instance: iconv -f {'UTF-16' if wide else 'WINDOWS-1252'} -t UTF-8)."
            before = error.object[max(0, error.start - 30) : error.start].decode("utf-8", "replace")
            message = f"the file is not UTF-8: byte 0x{error.object[error.start]:02x} comes behind {before!r}."
            raise refusal("the file is UTF-16." if wide else message, self._file, remedy) from error
        self._text = self._text[self._at :] + text
        self._at = 0
