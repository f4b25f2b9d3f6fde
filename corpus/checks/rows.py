"""What a validator says of each row, and what a validator is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from corpus.checks.findings import Findings
from corpus.checks.remarks import Remark
from corpus.splits import SplitRows
from jobspecs.dialect import Dialect
from jobspecs.problems import InvalidInput, Problem
from storage.tabular import TableFormat, detect_format, read_rows


@dataclass(frozen=True)
class CheckedFile:
    """The data set: its local file, how it is read, and what people call it."""

    path: Path
    fmt: TableFormat
    name: str

    @classmethod
    def of(cls, path: Path, dialect: Dialect | None = None) -> CheckedFile:
        """A local file under its own name. `dialect` tells how it is read. Raises InvalidInput."""
        return cls(path, detect_format(path.name, dialect), path.name)

    def located(self, problem: Problem) -> Problem:
        """The problem of one of its rows, said of the file that holds it where it is several."""
        return self.fmt.dialect.located(problem) if problem.file in (None, self.name) else problem

    @contextmanager
    def locating(self) -> Iterator[None]:
        """What is raised inside of its rows is `located`. Raises InvalidInput."""
        try:
            yield
        except InvalidInput as error:
            raise InvalidInput([self.located(problem) for problem in error.problems]) from error


def told_apart(files: Mapping[str, CheckedFile], references: Mapping[str, str]) -> dict[str, CheckedFile]:
    """The files by role; those of another role that share a name with one are called by their data set as well.

    `references`: role -> `owner/name@version`. Else what is found in a row could be looked for in the wrong file.
    """
    names = [file.name for file in files.values()]
    return {
        role: file
        if role == "dataset" or names.count(file.name) == 1
        else replace(file, name=f"{file.name} of {references.get(role, role)}")
        for role, file in files.items()
    }


@dataclass(frozen=True)
class UsableRow:
    """A row that the job can use.

    `sequences`: what the model will read of it: texts, pairs of texts, or numbers of tokens that are known already.
    `content`: two rows with the same one are duplicates. `guarded`: what must not be on both sides of the split.
    """

    number: int
    sequences: Sequence[str | tuple[str, str] | int]
    content: str
    guarded: str
    #: The class, or the query whose rows stay together.
    group: str = ""
    #: The texts by which the split ties rows together, as many for each row.
    tied: Sequence[str] = ()
    remarks: Sequence[Remark] = ()
    #: Tokens from which on something of it is learnt, where the job's length leaves nothing; such rows are left out.
    tokens_needed: int | None = None


#: A Problem is a row that is refused.
Rows = Iterator[UsableRow | Problem]


class Validator(Protocol):
    """How one kind looks at a data set. One per job; registered in `corpus.checks.registry`."""

    #: What a sequence is, for people: `text`, `pair`, `conversation`.
    unit: str
    #: What stays whole in the split: `row`, `query`.
    split_unit: str
    #: Tokens at which the spec cuts, the field that says so, and whether somebody wrote it.
    max_length: int
    max_length_field: str
    max_length_chosen: bool
    #: Whether `group` is a class, whose balance is of interest.
    classes: bool
    #: Whether rows that are refused are left out, and the job goes on with the others.
    skips_bad_rows: bool
    #: Rows that make one step; None where nothing is trained.
    batch_size: int | None

    def rows(self, file: CheckedFile) -> Rows:
        """Streams the data set. Raises InvalidInput where it can't be read any further."""
        ...

    def split(self, found: Findings) -> SplitRows | None:
        """The split of the usable rows, as the runner makes it; None: the kind has none. Raises InvalidInput."""
        ...


def table_rows(file: CheckedFile, columns: Sequence[str], make: Callable[[int, dict[str, Any]], UsableRow]) -> Rows:
    """Reads the columns; what `make` refuses with InvalidInput becomes the row's problem."""
    for number, row in enumerate(read_rows(file.path, file.fmt, columns, file_name=file.name), start=1):
        try:
            yield make(number, row)
        except InvalidInput as error:
            yield error.problems[0]
