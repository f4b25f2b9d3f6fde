"""Files of texts on this machine: one text per line, or a column of a CSV file. Read row by row, twice."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from eigenwerk.errors import EigenwerkError
from jobspecs.file_errors import why_not

#: Texts per request, of which the server takes 1,024, and their characters: its bodies have a megabyte at most.
_TEXTS_PER_REQUEST = 256
_CHARS_PER_REQUEST = 250_000
#: Characters of a cell at most; no request takes a longer text.
_CELL_CHARS_MAX = 1_000_000
#: What may stand between the cells of a CSV file: whichever its header has most of.
_DELIMITERS = ",;\t"
#: What a column of texts is taken to be called.
_TEXT = "text"

Item = TypeVar("Item")


@dataclass(frozen=True)
class TextTable:
    """A file whose rows have a text each. `place` is the column with the texts; `delimiter` None: it is no CSV."""

    path: Path
    columns: tuple[str, ...]
    place: int
    delimiter: str | None

    def rows(self) -> Iterator[list[str]]:
        """The cells of each row. Raises EigenwerkError, with the row, where the file can't be read."""
        with readable(self.path):
            if self.delimiter is None:
                with self.path.open(encoding="utf-8-sig") as stream:
                    yield from ([line.rstrip("\n")] for line in stream)
                return
            with self.path.open(encoding="utf-8-sig", newline="") as stream:
                cells = csv.reader(stream, delimiter=self.delimiter, strict=True)
                next(cells)
                # A line with nothing in it is no row, as everywhere in CSV.
                for number, row in enumerate(filter(None, cells), start=1):
                    if len(row) != len(self.columns):
                        raise EigenwerkError(
                            f"{self.path}, row {number} has {len(row)} cells, and the header has {len(self.columns)}. "
                            "Correct the row; nothing was asked."
                        )
                    yield row

    def text(self, row: Sequence[str]) -> str:
        return row[self.place].strip()


def lines_of(path: Path) -> TextTable:
    """A file with one text per line."""
    return TextTable(path, (_TEXT,), 0, None)


def column_of(path: Path, column: str | None) -> TextTable:
    """A column of a CSV file with a header: the one that is named, the only one, or `text`.

    Raises EigenwerkError when there is no such column.
    """
    csv.field_size_limit(_CELL_CHARS_MAX)
    with readable(path), path.open(encoding="utf-8-sig", newline="") as stream:
        delimiter = max(_DELIMITERS, key=stream.readline(_CELL_CHARS_MAX).count)
        stream.seek(0)
        columns = tuple(next(csv.reader(stream, delimiter=delimiter, strict=True), []))
    known = ", ".join(columns)
    if not columns:
        raise EigenwerkError(f"{path} is empty. Its first line must name the columns.")
    wanted = column or (columns[0] if len(columns) == 1 else _TEXT)
    if columns.count(wanted) != 1:
        what = "no column" if wanted not in columns else "several columns"
        raise EigenwerkError(f"{path} has {what} {wanted!r}. Choose one with --column: {known}.")
    return TextTable(path, columns, columns.index(wanted), delimiter)


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
        raise EigenwerkError(f"{path} is no text in UTF-8, at byte {error.start + 1:,}. Save it as UTF-8.") from error
    except csv.Error as error:
        raise EigenwerkError(f"{path} can't be read as CSV: {error}. Are its quotes closed?") from error
