"""Files of texts on this machine: one text per line, or a column of a CSV file. Read row by row, twice."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, TypeVar

from eigenwerk.errors import EigenwerkError
from jobspecs.dialect import DELIMITER_NAMES, Dialect
from jobspecs.file_errors import why_not

#: Texts per request, of which the server takes 1,024, and their characters: its bodies have a megabyte at most.
_TEXTS_PER_REQUEST = 256
_CHARS_PER_REQUEST = 250_000
#: Characters of a cell at most; no request takes a longer text.
_CELL_CHARS_MAX = 1_000_000
#: What a column of texts is taken to be called.
_TEXT = "text"

_OPEN = Dialect()

Item = TypeVar("Item")


@dataclass(frozen=True)
class TextTable:
    """A file whose rows have a text each, in the column `place`. It is read as `dialect` says; CSV has a delimiter."""

    path: Path
    columns: tuple[str, ...]
    place: int
    dialect: Dialect

    def rows(self) -> Iterator[list[str]]:
        """The cells of each row. Raises EigenwerkError, with the row, where the file can't be read."""
        csv_file = self.dialect.delimiter is not None
        with readable(self.path), _opened(self.path, self.dialect, newline="" if csv_file else None) as stream:
            if not csv_file:
                yield from ([line.rstrip("\n")] for line in stream)
                return
            cells = _cells(stream, self.dialect)
            next(cells)
            # A line with nothing in it is no row, as everywhere in CSV.
            for number, row in enumerate(filter(None, cells), start=1):
                if len(row) != len(self.columns):
                    raise EigenwerkError(
                        f"{self.path}, row {number} has {len(row)} cells, and the header has {len(self.columns)} (read "
                        f"as {self.dialect}). Correct the row, or say how the file is written: --delimiter, --quote."
                    )
                yield row

    def text(self, row: Sequence[str]) -> str:
        return row[self.place].strip()


def lines_of(path: Path, told: Dialect = _OPEN) -> TextTable:
    """A file with one text per line."""
    return TextTable(path, (_TEXT,), 0, told.model_copy(update={"delimiter": None}))


def column_of(path: Path, column: str | None, told: Dialect = _OPEN) -> TextTable:
    """A column of a CSV file with a header: the one that is named, the only one, or `text`.

    What is not told is UTF-8, with double quotes and the only delimiter that the header has. Raises EigenwerkError when
    there is no such column, and where the header has several delimiters: the platform, which reads all of a file that
    is pushed, decides by its rows.
    """
    csv.field_size_limit(_CELL_CHARS_MAX)
    with readable(path), _opened(path, told, newline="") as stream:
        header = stream.readline(_CELL_CHARS_MAX)
        dialect = told if told.delimiter else told.model_copy(update={"delimiter": _delimiter(path, header, told)})
        stream.seek(0)
        columns = tuple(next(_cells(stream, dialect), []))
    known = ", ".join(columns)
    if not columns:
        raise EigenwerkError(f"{path} is empty. Its first line must name the columns.")
    wanted = column or (columns[0] if len(columns) == 1 else _TEXT)
    if columns.count(wanted) != 1:
        what = "no column" if wanted not in columns else "several columns"
        raise EigenwerkError(f"{path} has {what} {wanted!r}. Choose one with --column: {known}.")
    return TextTable(path, columns, columns.index(wanted), dialect)


def _delimiter(path: Path, header: str, told: Dialect) -> str:
    """The one that parts the header; a comma where none does. Raises EigenwerkError where several could."""
    parting = {
        name: delimiter
        for name, delimiter in DELIMITER_NAMES.items()
        if len(next(_cells([header], told.model_copy(update={"delimiter": delimiter}), strict=False), [])) > 1
    }
    if len(parting) > 1:
        raise EigenwerkError(f"{path} could be parted by {' or '.join(parting)}. Say which: --delimiter NAME.")
    return next(iter(parting.values()), ",")


def _opened(path: Path, dialect: Dialect, newline: str | None) -> TextIO:
    encoding = dialect.encoding or "utf-8"
    return path.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline=newline)


def _cells(lines: Iterable[str], dialect: Dialect, *, strict: bool = True) -> Iterator[list[str]]:
    delimiter = dialect.delimiter or ","
    if dialect.quote == "none":
        return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=strict)
    return csv.reader(lines, delimiter=delimiter, quotechar=dialect.quote or '"', strict=strict)


def portions(items: Iterable[Item], text_of: Callable[[Item], str]) -> Iterator[list[Item]]:
    """The items in groups whose texts one request can carry."""
    portion: list[Item] = []
    chars = 0
    for item in items:
        length = len(text_of(item))
        if portion and (len(portion) == _TEXTS_PER_REQUEST or chars + length > _CHARS_PER_REQUEST):
            yield portion
            portion, chars = [], 0
        portion.append(item)
        chars += length
    if portion:
        yield portion


@contextmanager
def readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EigenwerkError(f"{path} can't be read: {why_not(error)}.") from error
    except UnicodeDecodeError as error:
        message = f"{path} is no text in {error.encoding.upper()}, at byte {error.start + 1:,}."
        raise EigenwerkError(f"{message} Save it as UTF-8, or name its encoding: --encoding cp1252.") from error
    except csv.Error as error:
        raise EigenwerkError(f"{path} can't be read as CSV: {error}. Are its quotes closed?") from error
