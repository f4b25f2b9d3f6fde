"""One way to read all formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from jobspecs.labels import visible
from jobspecs.problems import InvalidInput
from storage.tabular.csv_rows import csv_rows
from storage.tabular.formats import STORED_BYTES_MAX, Kind, TableFormat, refusal
from storage.tabular.json_document import document_rows
from storage.tabular.json_rows import json_rows
from storage.tabular.lines import Line, read_lines
from storage.tabular.parquet_rows import parquet_columns, parquet_rows
from storage.tabular.questions import question_rows
from storage.tabular.recognising_text import recognised
from storage.tabular.sheet_rows import sheet_rows
from storage.tabular.stored import HeldFile, Stored, held_files
from storage.tabular.text_rows import conll_rows, text_rows
from storage.tabular.values import as_json

#: The column that says to which part of a split a file of several belongs.
SPLIT = "split"
_OF_LINES: dict[Kind, Callable[[Iterator[Line], str], Iterator[dict[str, Any]]]] = {
    "jsonl": json_rows,
    "text": text_rows,
    "conll": conll_rows,
}
#: Kinds whose rows need not have the same fields, or whose columns are checked before.
_UNEVEN_KINDS: tuple[Kind, ...] = ("jsonl", "json", "parquet")


def read_rows(
    path: Stored,
    fmt: TableFormat,
    columns: Sequence[str] | None = None,
    *,
    file_name: str | None = None,
    max_bytes: int = STORED_BYTES_MAX,
) -> Iterator[dict[str, Any]]:
    """Streams the rows; memory doesn't grow with the file. CSV values are texts, others as the file types them.

    `columns` keeps only these, in this order; JSON rows without one get None, other formats are refused.
    `file_name` is what errors call the file; `max_bytes` bounds what push has not read yet. Raises InvalidInput, with
    the 1-based data row, at the row that is wrong.
    """
    file = file_name or path.name
    if fmt.kind == "tar" and isinstance(path, Path):
        for held in held_files(path, file):
            yield from _rows_of_held(held, fmt, columns, max_bytes)
        return
    rows = _rows_of_one(path, fmt, columns, file, max_bytes)
    if columns is None:
        yield from rows
        return
    for number, row in enumerate(rows):
        if number == 0 and fmt.kind not in _UNEVEN_KINDS:
            _check_columns(columns, row, file)
        yield {name: row.get(name) for name in columns}


def _rows_of_one(
    path: Stored, fmt: TableFormat, columns: Sequence[str] | None, file: str, max_bytes: int
) -> Iterator[dict[str, Any]]:
    """Rows of a file with all their columns, or fewer where `columns` need no others."""
    layout = fmt.layout
    if fmt.kind == "parquet":
        stored = None if layout.questions else columns
        if stored is not None:
            _check_columns(stored, parquet_columns(path, file), file)
        rows: Iterator[dict[str, Any]] = parquet_rows(path, file, stored, max_bytes)
    elif fmt.kind == "json" or (fmt.kind == "jsonl" and layout.container != "plain"):
        rows = document_rows(path, file, layout, compression=fmt.compression, max_bytes=max_bytes)
    elif fmt.kind == "sheet":
        rows = sheet_rows(path, file, recognised(path, fmt, file, max_bytes)[0].dialect, max_bytes)
    else:
        rows = _rows_of_lines(path, fmt, file, max_bytes)
    return question_rows(rows, file) if layout.questions else rows


def _rows_of_lines(path: Stored, fmt: TableFormat, file: str, max_bytes: int) -> Iterator[dict[str, Any]]:
    fmt, _ = recognised(path, fmt, file, max_bytes)
    lines = read_lines(
        path,
        file,
        compression=fmt.compression,
        max_bytes=max_bytes,
        encoding=fmt.dialect.encoding or "utf-8",
        line_end=fmt.dialect.line_end or "LF",
    )
    return csv_rows(lines, file, fmt.dialect) if fmt.kind == "csv" else _OF_LINES[fmt.kind](lines, file)


def _rows_of_held(
    held: HeldFile, fmt: TableFormat, columns: Sequence[str] | None, max_bytes: int
) -> Iterator[dict[str, Any]]:
    """Rows of one of several files; the column SPLIT says to which part it belongs, if to any."""
    own = columns if columns is None or held.split is None else [name for name in columns if name != SPLIT]
    for number, row in enumerate(read_rows(held, fmt.of(held.name), own, max_bytes=max_bytes), start=1):
        if held.split is None:
            yield row
            continue
        if columns is None and SPLIT in row:
            remedy = "Rename the column, or take the parts one by one, each as a data set of its own."
            raise refusal(f"there is a column {SPLIT!r} already.", held.name, remedy, number, SPLIT)
        whole = {SPLIT: held.split, **row}
        yield whole if columns is None else {name: whole[name] for name in columns}


#: Characters of the rows that `first_rows` gives, beyond a single row's.
_FIRST_CHARS_MAX = 4 * 1024 * 1024


def first_rows(path: Path, fmt: TableFormat, file_name: str, count: int, cut: bool) -> list[dict[str, Any]]:
    """At most `count` rows as JSON has them, fewer when they are long.

    `cut`: the file ends somewhere in the middle of the real one.

    Raises InvalidInput as `read_rows` does, but not for the place where the file was cut.
    """
    found: list[dict[str, Any]] = []
    chars = 0
    try:
        for row in islice(read_rows(path, fmt, file_name=file_name), count):
            found.append(as_json(row))
            chars += len(str(row))
            if chars > _FIRST_CHARS_MAX:
                return found
    except InvalidInput:
        # The file was valid when it was pushed; only where it was cut here can a row be broken.
        if not cut:
            raise
    if cut and len(found) < count:
        return found[:-1]
    return found


def _spelled(name: str) -> str:
    """In quotes where nobody would see what it is: spaces at its ends, control and invisible characters."""
    return name if name == visible(name) and name.isprintable() else ascii(name)


def _check_columns(wanted: Sequence[str], present: Sequence[str] | dict[str, Any], file: str) -> None:
    for name in wanted:
        if name not in present:
            message = f"there is no column {name!r}; the columns are {', '.join(map(_spelled, present))}."
            raise refusal(message, file, "Use one of these names.", field=name)
