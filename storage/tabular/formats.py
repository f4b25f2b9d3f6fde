"""Which kinds of table there are, and the limits within which they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jobspecs.layouts import Layout
from jobspecs.problems import InvalidInput, Problem

#: Longest physical line of a text file and longest row of JSONL, in bytes.
LINE_BYTES_MAX = 16 * 1024 * 1024
#: Longest single field of a CSV file, in characters.
FIELD_CHARS_MAX = 1024 * 1024
#: Columns of a table, and the longest name of one, in characters.
COLUMNS_MAX = 1000
COLUMN_NAME_CHARS_MAX = 1000
#: Rows simply one behind the other.
PLAIN = Layout()
#: Decompressed size at which reading stops, in bytes.
TABLE_BYTES_MAX = 50 * 1024**3

Kind = Literal["csv", "jsonl", "json", "parquet"]
Compression = Literal["gz", "xz"]

_SUFFIXES: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}
_COMPRESSIONS: tuple[Compression, ...] = ("gz", "xz")


@dataclass(frozen=True)
class TableFormat:
    """How a file is to be read. `delimiter` of a CSV is found out from its first lines unless given."""

    kind: Kind
    compression: Compression | None = None
    delimiter: str | None = None
    #: Names of the columns of a CSV whose first line is already data.
    header: tuple[str, ...] | None = None
    layout: Layout = PLAIN


def detect_format(filename: str, header: Sequence[str] | None = None) -> TableFormat:
    """The format that the name's ending says. Raises InvalidInput for any other ending.

    `header` names the columns of a CSV that has no header of its own; other formats name theirs themselves.
    """
    stem = filename.lower()
    compression = next((ending for ending in _COMPRESSIONS if stem.endswith(f".{ending}")), None)
    stem = stem.removesuffix(f".{compression}")
    for suffix, kind in _SUFFIXES.items():
        if stem.endswith(suffix) and not (compression and kind == "parquet"):
            if header is not None and kind != "csv":
                remedy = "Give names of columns for CSV and TSV only."
                raise refusal("this format names its columns itself.", filename, remedy, field="columns")
            delimiter = "\t" if suffix == ".tsv" else None
            return TableFormat(kind, compression, delimiter, None if header is None else tuple(header))
    remedy = "Use .csv, .tsv, .jsonl, .json (each also with .gz or .xz) or .parquet."
    raise refusal("the ending of the file name doesn't tell a table format.", filename, remedy)


def checked_columns(names: Sequence[str], file: str) -> list[str]:
    """The names of a table's columns if they are few, there, short and unlike each other; else raises InvalidInput."""
    if len(names) > COLUMNS_MAX:
        raise refusal(f"there are more than {COLUMNS_MAX} columns.", file, "Keep only those that are needed.")
    seen = set()
    for position, name in enumerate(names, start=1):
        if not name.strip():
            raise refusal(f"column {position} has no name.", file, "Give every column a name.")
        if len(name) > COLUMN_NAME_CHARS_MAX:
            message = f"the name of column {position} is longer than {COLUMN_NAME_CHARS_MAX:,} characters."
            raise refusal(message, file, "Check that the first line holds the names of the columns.")
        if name in seen:
            raise refusal(f"column {name!r} appears twice.", file, "Rename or remove one of them.", field=name)
        seen.add(name)
    return list(names)


def refusal(message: str, file: str, remedy: str, row: int | None = None, field: str | None = None) -> InvalidInput:
    """An InvalidInput with one problem; `row` is the 1-based data row."""
    return InvalidInput([Problem(message=message, file=file, row=row, field=field, remedy=remedy)])
