"""What one pass over a table learns about it."""

from __future__ import annotations

import hashlib
import json
import math
import re
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from jobspecs.problems import InvalidInput
from jobspecs.profile import DISTINCT_VALUES_MAX, ColumnProfile, DatasetProfile
from storage.tabular.doubts import doubts_of_columns
from storage.tabular.formats import (
    COLUMN_NAME_CHARS_MAX,
    COLUMNS_MAX,
    OPEN,
    TABLE_BYTES_MAX,
    TABLE_ROWS_MAX,
    TEXT_KINDS,
    TableFormat,
    refusal,
)
from storage.tabular.reading import read_rows
from storage.tabular.recognising import check_row_count, recognise
from storage.tabular.values import as_json, text_of, utf8_of

#: A column's distinct values are kept while they have at most this many characters in all: labels do, texts don't.
KEPT_CHARS_MAX = 256 * 1024

Kind = Literal["text", "number", "boolean", "other"]
_HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def profile_table(
    path: Path,
    fmt: TableFormat,
    file_name: str,
    *,
    max_bytes: int = TABLE_BYTES_MAX,
    max_rows: int = TABLE_ROWS_MAX,
) -> DatasetProfile:
    """Reads every row once. Raises InvalidInput for the first row that is wrong, for a table without rows and beyond
    the limits.

    The values of a CSV column count as numbers or booleans if all of them look so.
    """
    fmt, notices = recognise(path, fmt, file_name, max_bytes=max_bytes, max_rows=max_rows)
    columns: dict[str, _Column] = {}
    row = 0
    for row, values in enumerate(read_rows(path, fmt, file_name=file_name, max_bytes=max_bytes), start=1):
        check_row_count(row, max_rows, file_name)
        try:
            _take(values, columns, row, file_name)
        except InvalidInput as error:
            raise InvalidInput([fmt.dialect.located(problem) for problem in error.problems]) from error
    if row == 0:
        if fmt.layout.questions:
            remedy = "Push it with --layout to keep the questions as they are."
            raise refusal("no question is answered by its paragraph.", file_name, remedy)
        raise refusal("the table has no rows.", file_name, "Send a file with at least one row of data.")
    kinds = [fmt.of(part.name).kind for part in fmt.dialect.files] if fmt.kind == "tar" else [fmt.kind]
    as_text = all(kind in TEXT_KINDS for kind in kinds)
    profiles = {name: column.profile(row, as_text) for name, column in columns.items()}
    return DatasetProfile(
        rows=row,
        columns=profiles,
        dialect=fmt.dialect if fmt.dialect != OPEN else None,
        notices=(*notices, *doubts_of_columns(profiles)),
    )


def _take(values: dict[str, Any], columns: dict[str, _Column], row: int, file: str) -> None:
    for name, value in values.items():
        column = columns.get(name)
        if column is None:
            column = columns[name] = _new_column(name, row, len(columns), file)
        elif isinstance(value, str) and column.repeats(value, row):
            continue
        _add(column, value, row, file, name)


def _new_column(name: str, row: int, count: int, file: str) -> _Column:
    if count >= COLUMNS_MAX:
        raise refusal(f"there are more than {COLUMNS_MAX} columns.", file, "Keep only those that are needed.", row)
    if not name.strip():
        raise refusal("a field has no name.", file, "Give every field a name.", row)
    if len(name) > COLUMN_NAME_CHARS_MAX:
        message = f"the name of a field is longer than {COLUMN_NAME_CHARS_MAX:,} characters."
        raise refusal(message, file, "Give it a short name.", row)
    _check_text(name, row, file, name)
    return _Column()


def _add(column: _Column, value: object, row: int, file: str, name: str) -> None:
    kind, text = described(value)
    if kind is None:
        return
    _check_text(text, row, file, name)
    column.add(kind, text, row)


def described(value: object) -> tuple[Kind | None, str]:
    """The kind of a value and its text; the kind of a missing one (null, NaN, blank text) is None."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None, ""
    if isinstance(value, str):
        return ("text", value) if value.strip() else (None, "")
    if isinstance(value, bool):
        return "boolean", "true" if value else "false"
    if isinstance(value, int | float):
        return "number", repr(value)
    if isinstance(value, Decimal):
        return "number", str(value)
    if isinstance(value, bytes) and (text := utf8_of(value)) is not None:
        return described(text)
    if isinstance(value, list | dict | tuple):
        return "other", json.dumps(as_json(value), ensure_ascii=False)
    return "other", text_of(value)


def _check_text(text: str, row: int, file: str, name: str) -> None:
    if "\0" in text:
        raise refusal("the text holds a NUL character.", file, "Remove it.", row, name)
    if not text.isascii() and _HALF_OF_A_PAIR.search(text):
        raise refusal("the text holds half a surrogate pair.", file, "Write the character whole.", row, name)


class _Column:
    """The counts of one column so far. Distinct values are told apart by hash, so long texts cost little memory.

    Filled rows are counted, not empty ones: a row of two fields costs two steps, however many columns others have.
    """

    def __init__(self) -> None:
        self._filled = 0
        #: The first row without a value so far, or the next one.
        self._first_empty_row = 1
        self._kinds: set[Kind] = set()
        #: What the texts of a CSV look like; not followed any further once one looks like text.
        self._looks: set[Kind] = set()
        self._seen: set[bytes] = set()
        self._values: dict[str, int] = {}
        self._kept_chars = 0
        self._capped = False
        self._longest_chars = 0
        self._chars = 0

    def repeats(self, text: str, row: int) -> bool:
        """Counts a text that is kept already: labels and numbers cost a third so. False: it is not."""
        if text not in self._values:
            return False
        self._values[text] += 1
        self._kinds.add("text")
        self._filled += 1
        if self._first_empty_row == row:
            self._first_empty_row += 1
        self._chars += len(text)
        return True

    def add(self, kind: Kind, text: str, row: int) -> None:
        self._filled += 1
        if self._first_empty_row == row:
            self._first_empty_row += 1
        self._chars += len(text)
        self._longest_chars = max(self._longest_chars, len(text))
        self._kinds.add(kind)
        if "text" not in self._looks:
            self._looks.add(_look(text))
        if text in self._values:
            self._values[text] += 1
        elif len(self._seen) <= DISTINCT_VALUES_MAX:
            self._add_distinct(text)

    def profile(self, rows: int, as_text: bool) -> ColumnProfile:
        kinds = self._looks if as_text else self._kinds
        kind: Kind = "text" if not kinds else next(iter(kinds)) if len(kinds) == 1 else "text" if as_text else "other"
        return ColumnProfile(
            kind=kind,
            empty=rows - self._filled,
            distinct=min(len(self._seen), DISTINCT_VALUES_MAX),
            distinct_capped=self._capped,
            values=self._values,
            longest_chars=self._longest_chars,
            mean_chars=self._chars / self._filled if self._filled else 0.0,
            first_empty_row=self._first_empty_row if self._filled < rows else None,
        )

    def _add_distinct(self, text: str) -> None:
        self._seen.add(hashlib.blake2b(text.encode(), digest_size=16).digest())
        self._kept_chars += len(text)
        if len(self._seen) > DISTINCT_VALUES_MAX or self._kept_chars > KEPT_CHARS_MAX:
            self._capped = True
            self._values = {}
        if not self._capped:
            self._values[text] = 1


def _look(text: str) -> Kind:
    if len(text) <= 64 and _NUMBER.fullmatch(text.strip()):
        return "number"
    return "boolean" if text.strip().lower() in ("true", "false") else "text"
