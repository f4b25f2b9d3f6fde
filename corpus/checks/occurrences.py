"""One thing that is said of many rows: counted, and said once with the first of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from jobspecs.data_report import ROWS_NAMED
from jobspecs.dialect import Dialect
from jobspecs.problems import Problem

#: Different things that are said of rows.
KINDS_MAX = 50
_NUMBER = re.compile(r"\d+")


@dataclass
class Occurrences:
    """One thing that is said of several rows: of how many, and the first of them."""

    problem: Problem
    count: int = 0
    rows: list[int] = field(default_factory=list)
    #: What people call these rows.
    row_names: list[str] = field(default_factory=list)

    def add(self, row: int | None, row_name: Callable[[int], str]) -> None:
        """`row_name` is asked for the first of them alone: it walks over the files, which may be a thousand."""
        self.count += 1
        if row is not None and len(self.rows) < ROWS_NAMED:
            self.rows.append(row)
            self.row_names.append(row_name(row))

    @property
    def named(self) -> str:
        """`1 row`, `40 rows (1, 2, 3, …)`."""
        if self.count == 1:
            return "1 row"
        named = ", ".join(self.row_names)
        return f"{self.count:,} rows ({named}{', …' if self.count > len(self.rows) else ''})"


class Refusals:
    """Reasons to refuse rows. `turn 3 is empty` and `turn 5 is empty` are one."""

    def __init__(self) -> None:
        self.count = 0
        self._kinds: dict[tuple[str, ...], Occurrences] = {}

    def add(self, problem: Problem, read_as: Dialect) -> None:
        """`problem` is of a row of a file that is `read_as` this."""
        self.count += 1
        texts = (problem.file, problem.field, problem.message)
        kind = tuple(_NUMBER.sub("#", text or "") for text in texts)
        if kind not in self._kinds and len(self._kinds) < KINDS_MAX:
            self._kinds[kind] = Occurrences(read_as.located(problem))
        if kind in self._kinds:
            self._kinds[kind].add(problem.row, read_as.row_name)

    @property
    def kinds(self) -> list[Occurrences]:
        """The most frequent first; KINDS_MAX of them at most."""
        return sorted(self._kinds.values(), key=lambda kind: -kind.count)
