"""Which kinds of table there are, and the limits within which they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jobspecs.problems import InvalidInput, Problem

#: Longest physical line of a text file and longest row of JSONL, in bytes.
LINE_BYTES_MAX = 16 * 1024 * 1024
#: Longest single field of a CSV file, in characters.
FIELD_CHARS_MAX = 1024 * 1024
#: Decompressed size at which reading stops, in bytes.
TABLE_BYTES_MAX = 50 * 1024**3

_SUFFIXES: dict[str, Literal["csv", "jsonl", "parquet"]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


@dataclass(frozen=True)
class TableFormat:
    """How a file is to be read. `delimiter` of a CSV is found out from its first lines unless given."""

    kind: Literal["csv", "jsonl", "parquet"]
    gzip: bool = False
    delimiter: str | None = None


def detect_format(filename: str) -> TableFormat:
    """The format that the name's ending says. Raises InvalidInput for any other ending."""
    name = filename.lower()
    gzip = name.endswith(".gz")
    stem = name.removesuffix(".gz")
    for suffix, kind in _SUFFIXES.items():
        if stem.endswith(suffix) and not (gzip and kind == "parquet"):
            return TableFormat(kind, gzip, "\t" if suffix == ".tsv" else None)
    raise InvalidInput(
        [
            Problem(
                message="the ending of the file name doesn't tell a table format.",
                file=filename,
                remedy="Use .csv, .tsv, .jsonl (each also with .gz) or .parquet.",
            )
        ]
    )


def refusal(message: str, file: str, remedy: str, row: int | None = None, field: str | None = None) -> InvalidInput:
    """An InvalidInput with one problem; `row` is the 1-based data row."""
    return InvalidInput([Problem(message=message, file=file, row=row, field=field, remedy=remedy)])
