"""The rows of a data set, read anew each time and never held as a whole, and rows written as they came."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from corpus.checks.rows import CheckedFile
from corpus.conversations.problems import BadRow
from jobspecs.dialect import Dialect
from jobspecs.lifecycle import Reason
from jobspecs.problems import InvalidInput, Problem
from storage.tabular import detect_format, read_rows
from storage.tabular.formats import TEXT_KINDS
from storage.tabular.values import as_json
from workers.run.context import RunFailed

Cell = TypeVar("Cell")


@dataclass(frozen=True)
class TableRows:
    """All problems are raised as RunFailed(invalid_dataset) with file, row and column."""

    path: Path
    dialect: Dialect | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Every row with all its columns."""
        try:
            yield from read_rows(self.path, detect_format(self.path.name, self.dialect))
        except InvalidInput as error:
            raise RunFailed(Reason.invalid_dataset, str(error)) from error

    def cell(self, read: Callable[[Any, str, str, int], Cell], row: dict[str, Any], column: str, number: int) -> Cell:
        """What `read` (`corpus.cells`) makes of a cell; rows count from 1."""
        return self.located(lambda: read(row.get(column), column, self.path.name, number), number)

    def located(self, read: Callable[[], Cell], number: int) -> Cell:
        """What `read` makes of the row with this number."""
        try:
            with CheckedFile.of(self.path, self.dialect).locating():
                try:
                    return read()
                except BadRow as error:
                    raise InvalidInput([error.problem(self.path.name, number)]) from error
        except InvalidInput as error:
            raise RunFailed(Reason.invalid_dataset, str(error)) from error

    def invalid(self, field: str | None, row: int | None, message: str, remedy: str) -> RunFailed:
        """What to raise of a row, or of the whole."""
        problem = Problem(file=self.path.name, row=row, field=field, message=message, remedy=remedy)
        return RunFailed(Reason.invalid_dataset, str(problem))

    @property
    def suffix(self) -> str:
        """Of a file with these rows and more columns: `csv.gz` for cells that are texts, else `jsonl.gz`."""
        return "csv.gz" if detect_format(self.path.name, self.dialect).kind in TEXT_KINDS else "jsonl.gz"


def written_rows(rows: Sequence[Mapping[str, Any]], suffix: str, *, first: bool) -> bytes:
    """Rows as lines of a file with this suffix; equal rows give equal bytes. `first`: a CSV's header goes before.

    What is a list or an object stands in a CSV's cell as JSON.
    """
    if suffix == "jsonl.gz":
        return "".join(json.dumps(as_json(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode()
    lines = [_csv_line(rows[0])] if first and rows else []
    lines += [_csv_line([_csv_cell(value) for value in row.values()]) for row in rows]
    return "".join(lines).encode()


def _csv_line(cells: Iterable[Any]) -> str:
    """The library quotes a carriage return only where that ends its lines, and no reader takes one outside quotes."""
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\r\n").writerow(list(cells))
    return stream.getvalue().removesuffix("\r\n") + "\n"


def _csv_cell(value: Any) -> Any:
    return json.dumps(as_json(value), ensure_ascii=False) if isinstance(value, list | tuple | dict) else value
