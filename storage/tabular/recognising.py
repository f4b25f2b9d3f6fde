"""What a file, or each of several, does not say of itself: recognised once, when it is pushed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from jobspecs.dialect import PartFile
from storage.tabular.content import check_content
from storage.tabular.doubts import doubts_of_texts
from storage.tabular.first_bytes import check_beginning
from storage.tabular.formats import OPEN, TableFormat, refusal
from storage.tabular.reading import SPLIT, read_rows
from storage.tabular.recognising_layouts import recognise_layout
from storage.tabular.recognising_text import recognised
from storage.tabular.stored import HeldFile, Stored, held_files

_ROWS_REMEDY = "Split it into several data sets; who runs the platform can allow more: EIGENWERK_TABLE_ROWS_MAX."
_TAGS = "No kind of job trains on tags yet; every kind that reads texts can use the column text."


def recognise(
    path: Path, fmt: TableFormat, file: str, *, max_bytes: int, max_rows: int
) -> tuple[TableFormat, list[str]]:
    """The format with all that is to be kept, and notices. Raises InvalidInput.

    Several files must have the same columns; how many rows each has is kept.
    """
    if fmt.kind != "tar":
        return _one(path, fmt, file, max_bytes, max_rows)
    parts: list[PartFile] = []
    notices: list[str] = []
    first: tuple[HeldFile, dict[str, None]] | None = None
    for held in held_files(path, file):
        before = sum(part.rows for part in parts)
        own, said = _one(held, fmt.of(held.name), held.name, max_bytes, max_rows - before)
        notices += [f"{held.name}: {notice}" for notice in said]
        columns: dict[str, None] = {}
        rows = 0
        for rows, row in enumerate(read_rows(held, own, max_bytes=max_bytes), start=1):
            check_row_count(before + rows, max_rows, file)
            columns.update(dict.fromkeys(row))
        if first is None:
            first = (held, columns)
        _check_alike(held, columns, *first)
        parts.append(PartFile(name=held.name, rows=rows, dialect=own.dialect if own.dialect != OPEN else None))
    if not parts:
        raise refusal("it holds no files.", file, "Name the files: eigenwerk datasets push A.csv B.csv --name NAME")
    return replace(fmt, dialect=fmt.dialect.model_copy(update={"files": tuple(parts)})), notices


def _one(path: Stored, fmt: TableFormat, file: str, max_bytes: int, max_rows: int) -> tuple[TableFormat, list[str]]:
    check_beginning(path, fmt, file)
    if fmt.compression is not None:
        check_content(path, file, fmt.compression, max_bytes)
    fmt, notices = recognised(path, fmt, file, max_bytes)
    notices = [*notices, *doubts_of_texts(path, fmt, file, max_bytes=max_bytes)]
    if fmt.kind == "conll":
        notices.append(_TAGS)
    if fmt.dialect.layout is None:
        fmt, laid_out = recognise_layout(path, fmt, file, max_bytes=max_bytes, max_rows=max_rows)
        notices = [*notices, *laid_out]
    return fmt, notices


def check_row_count(rows: int, max_rows: int, file: str) -> None:
    """Raises InvalidInput beyond the limit."""
    if rows > max_rows:
        raise refusal(f"the table has more than {max_rows:,} rows.", file, _ROWS_REMEDY)


def _check_alike(held: HeldFile, columns: dict[str, None], first: HeldFile, wanted: dict[str, None]) -> None:
    remedy = "Give all files the same columns, or push them as data sets of their own."
    if not columns:
        raise refusal("the file has no rows.", held.name, "Leave it out.")
    if (held.split is None) != (first.split is None):
        message = f"it belongs to no part of a split, but another file does, or the other way round: {first.name}."
        raise refusal(message, held.name, f"Name a part for all files, or for none: --{SPLIT} train=A.csv")
    for name in wanted.keys() - columns.keys():
        raise refusal(f"there is no column {name!r}, which {first.name} has.", held.name, remedy, field=name)
    for name in columns.keys() - wanted.keys():
        raise refusal(f"the column {name!r} is not in {first.name}.", held.name, remedy, field=name)
