"""Which kinds of table there are, and the limits within which they are read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from jobspecs.dialect import Dialect
from jobspecs.layouts import Layout, parse_layout
from jobspecs.problems import InvalidInput, Problem
from jobspecs.tables import COMPRESSIONS, OTHER_COMPRESSIONS, TABLE_KINDS, UNREAD_TABLES, Compression, TableKind

#: Longest physical line of a text file and longest row of JSONL, in bytes.
LINE_BYTES_MAX = 16 * 1024 * 1024
#: Longest single field of a CSV file, in characters.
FIELD_CHARS_MAX = 1024 * 1024
#: Columns of a table, and the longest name of one, in characters.
COLUMNS_MAX = 1000
COLUMN_NAME_CHARS_MAX = 1000
#: Rows simply one behind the other.
PLAIN = Layout()
#: Decompressed size at which reading stops, in bytes, and rows at which it does, unless told.
TABLE_BYTES_MAX = 50 * 1024**3
TABLE_ROWS_MAX = 100_000_000
#: Of what is stored: push has read all of it within the bounds of that day.
STORED_BYTES_MAX = sys.maxsize

Kind = TableKind

#: What may be told of which kinds.
_TOLD: dict[str, tuple[Kind, ...]] = {
    "columns": ("csv", "sheet"),
    "delimiter": ("csv",),
    "quote": ("csv",),
    "encoding": ("csv", "text", "conll"),
    "sheet": ("sheet",),
    "layout": ("json", "jsonl", "parquet"),
}
#: Kinds with an index at the end of the file, so that its beginning alone can't be read. They compress themselves.
WHOLE_KINDS: tuple[Kind, ...] = ("parquet", "sheet")
#: Kinds whose cells are all texts, which may look like numbers.
TEXT_KINDS: tuple[Kind, ...] = ("csv", "sheet", "text")

#: Nothing is told.
OPEN = Dialect()


@dataclass(frozen=True)
class TableFormat:
    """How a file is to be read. What its dialect leaves open is recognised from the file."""

    kind: Kind
    compression: Compression | None = None
    dialect: Dialect = OPEN

    @property
    def layout(self) -> Layout:
        """Where the rows are in it."""
        return PLAIN if self.dialect.layout is None else parse_layout(self.dialect.layout)

    @property
    def whole(self) -> bool:
        """Whether even the first row needs the whole file."""
        return (
            self.kind in WHOLE_KINDS
            or self.layout.whole
            or any(self.of(part.name).whole for part in self.dialect.files)
        )

    def of(self, name: str) -> TableFormat:
        """How the file `name` of several is read. Raises InvalidInput when its ending tells no format."""
        kept = next((part.dialect for part in self.dialect.files if part.name == name), None)
        fmt = detect_format(name, kept or self.dialect.model_copy(update={"files": ()}))
        if fmt.kind == "tar":
            raise refusal("a tar can't hold another one.", name, "Name its files themselves.")
        return fmt


def detect_format(filename: str, told: Dialect | None = None) -> TableFormat:
    """The format that the name's ending says. Raises InvalidInput for any other ending.

    `told` is what is known of the file's text; what a format does not have is refused with its name as the field.
    """
    stem = filename.lower()
    compression = next((ending for ending in COMPRESSIONS if stem.endswith(f".{ending}")), None)
    stem = stem.removesuffix(f".{compression}")
    for suffix, kind in TABLE_KINDS.items():
        if stem.endswith(suffix):
            if compression and kind in (*WHOLE_KINDS, "tar"):
                message = f"{suffix} files that are packed as .{compression} are not read."
                raise refusal(message, filename, f"Unpack it, and push the {suffix} itself.")
            dialect = told or OPEN
            _check_told(kind, dialect, filename)
            if suffix == ".tsv" and dialect.delimiter is None:
                dialect = dialect.model_copy(update={"delimiter": "\t"})
            return TableFormat(kind, compression, dialect)
    ending = PurePosixPath(stem).suffix
    if ending in UNREAD_TABLES:
        raise refusal(f"{ending} files are not read.", filename, UNREAD_TABLES[ending])
    if ending in OTHER_COMPRESSIONS:
        message = f"files that are packed as {ending} are not read."
        raise refusal(message, filename, "Unpack the file, or pack it with gzip or xz: .gz and .xz are read.")
    remedy = (
        "Use .csv, .tsv, .txt, .conll, .jsonl, .json (each also with .gz or .xz), .xlsx, .ods, .parquet, or a .tar of "
        "such files."
    )
    raise refusal("the ending of the file name doesn't tell a table format.", filename, remedy)


def _check_told(kind: Kind, told: Dialect, file: str) -> None:
    for field in ("columns", "delimiter", "quote", "encoding", "sheet", "layout"):
        if getattr(told, field) is not None and kind not in (*_TOLD[field], "tar"):
            if field == "columns":
                message, remedy = (
                    "this format names its columns itself.",
                    "Give names of columns for CSV, TSV and sheets only.",
                )
            else:
                message, remedy = f"this format has no {field}.", f"Leave {field} out for it."
            raise refusal(message, file, remedy, field=field)


def checked_columns(names: Sequence[str], file: str, *, may_be_a_row: bool = False) -> list[str]:
    """The names of a table's columns if they are few, there, short and unlike each other; else raises InvalidInput.

    `may_be_a_row`: they come from a first line, which may be a row of a table without names.
    """
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
            remedy = "Rename or remove one of them."
            remedy += " If the first line is a row, push with --columns and names of your own." if may_be_a_row else ""
            raise refusal(f"column {name!r} appears twice.", file, remedy, field=name)
        seen.add(name)
    return list(names)


def refusal(message: str, file: str, remedy: str, row: int | None = None, field: str | None = None) -> InvalidInput:
    """An InvalidInput with one problem; `row` is the 1-based data row."""
    return InvalidInput([Problem(message=message, file=file, row=row, field=field, remedy=remedy)])
