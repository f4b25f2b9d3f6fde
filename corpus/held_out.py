"""The files of a job's data, and which of their rows choose or judge where the spec says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from corpus.cells import text_cell
from corpus.checks.rows import CheckedFile
from corpus.splits import TEST, VALIDATION
from jobspecs.kinds.training import GivenRows, TrainingSpec
from jobspecs.problems import InvalidInput, Problem
from storage.tabular import read_rows

#: Values of a column that a refusal names.
_NAMED_MAX = 10


@dataclass(frozen=True)
class DataPart:
    """One file of a job's data."""

    file: CheckedFile
    #: What every row is, VALIDATION or TEST; 0: they differ.
    whole: int = 0
    #: Otherwise one byte per row: VALIDATION or TEST where it is one; empty: none is, or they are drawn.
    roles: bytes = b""

    def role(self, row: int) -> int:
        """What the spec says that the row, counted from 1, is: VALIDATION, TEST or 0."""
        return self.whole or (self.roles[row - 1] if self.roles else 0)

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """The number of each row, counted from 1, and its cells. Raises InvalidInput as `read_rows` does."""
        return enumerate(read_rows(self.file.path, self.file.fmt, columns, file_name=self.file.name), start=1)


def parts_of(
    file: CheckedFile,
    held_out: CheckedFile | None = None,
    test: CheckedFile | None = None,
    spec: TrainingSpec | None = None,
) -> tuple[DataPart, ...]:
    """The data set, and those of the sections `validation` and `test` where these name one.

    Raises InvalidInput when a column that says which rows are meant is absent, empty somewhere, or names none.
    """
    roles = b""
    for role, section in _sections(spec):
        if section.column is not None:
            told = _told(file, role, section.column, section.values)
            roles = _joined(file, roles, told) if roles else told
    others = ((VALIDATION, held_out), (TEST, test))
    return DataPart(file, roles=roles), *(DataPart(other, role) for role, other in others if other is not None)


def _sections(spec: TrainingSpec | None) -> list[tuple[int, GivenRows]]:
    if spec is None:
        return []
    return [(VALIDATION, spec.validation), *([(TEST, spec.test)] if spec.test is not None else [])]


def _joined(file: CheckedFile, roles: bytes, others: bytes) -> bytes:
    both = next((row for row, pair in enumerate(zip(roles, others, strict=True), start=1) if all(pair)), None)
    if both is not None:
        message = "the row is named by validation and by test: one that chooses can't judge."
        problem = Problem(
            field="test.values", file=file.name, row=both, message=message, remedy="Name it in one of them."
        )
        raise InvalidInput([problem])
    return bytes(map(max, roles, others))


def _told(file: CheckedFile, role: int, column: str, values: Sequence[str]) -> bytes:
    found, held = bytearray(), dict[str, None]()
    what = "validation" if role == VALIDATION else "test"
    with file.locating(), _of_section(what, column):
        for number, row in DataPart(file).rows([column]):
            value = text_cell(row[column], column, file.name, number)
            found.append(role if value in values else 0)
            if value in values or len(held) < _NAMED_MAX:
                held[value] = None
    absent = [value for value in values if value not in held]
    if absent:
        spaces = " Spaces around what it holds are left out." if any(one != one.strip() for one in absent) else ""
        problem = Problem(
            field=f"{what}.values",
            file=file.name,
            message=f"column {column!r} holds {' or '.join(map(repr, absent))} in no row.",
            remedy=f"It holds: {', '.join(held) or 'nothing'}.{spaces}",
        )
        raise InvalidInput([problem])
    return bytes(found)


@contextmanager
def _of_section(what: str, column: str) -> Iterator[None]:
    """What is wrong with the column is said of the spec's field that names it. Raises InvalidInput."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput([_said_of(f"{what}.column", column, problem) for problem in error.problems]) from error


def _said_of(field: str, column: str, problem: Problem) -> Problem:
    if problem.field != column:
        return problem
    message = problem.message if problem.row is None else f"column {column!r}: {problem.message}"
    return problem.model_copy(update={"field": field, "message": message})
