"""The files of a job's data, and which of their rows judge where the spec says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from corpus.cells import text_cell
from corpus.checks.rows import CheckedFile
from jobspecs.kinds.training import Validation
from jobspecs.problems import InvalidInput, Problem
from storage.tabular import read_rows

#: Values of a column that a refusal names.
_NAMED_MAX = 10


@dataclass(frozen=True)
class DataPart:
    """One file of a job's data."""

    file: CheckedFile
    #: Whether every row judges.
    all_judge: bool = False
    #: Otherwise one byte per row, 1 where it judges; empty: none does, or they are drawn.
    judging: bytes = b""

    def judges(self, row: int) -> bool:
        """Whether the spec says of the row, counted from 1, that it judges."""
        return self.all_judge or (bool(self.judging) and self.judging[row - 1] == 1)

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """The number of each row, counted from 1, and its cells. Raises InvalidInput as `read_rows` does."""
        return enumerate(read_rows(self.file.path, self.file.fmt, columns, file_name=self.file.name), start=1)


def parts_of(
    file: CheckedFile, held_out: CheckedFile | None = None, validation: Validation | None = None
) -> tuple[DataPart, ...]:
    """The data set, and the one whose rows judge where there is one.

    Raises InvalidInput when the column that says which rows judge is absent, empty somewhere, or names none.
    """
    if held_out is not None:
        return DataPart(file), DataPart(held_out, all_judge=True)
    if validation is None or validation.column is None:
        return (DataPart(file),)
    return (DataPart(file, judging=_judging(file, validation.column, validation.values)),)


def _judging(file: CheckedFile, column: str, values: Sequence[str]) -> bytes:
    judging, others = bytearray(), dict[str, None]()
    with file.locating():
        for number, row in DataPart(file).rows([column]):
            value = text_cell(row[column], column, file.name, number)
            judging.append(value in values)
            if value not in values and len(others) < _NAMED_MAX:
                others[value] = None
    if not any(judging):
        problem = Problem(
            field="validation.values",
            file=file.name,
            message=f"column {column!r} holds {' or '.join(map(repr, values))} in no row: none is left to judge by.",
            remedy=f"It holds: {', '.join(others) or 'nothing'}.",
        )
        raise InvalidInput([problem])
    return bytes(judging)
