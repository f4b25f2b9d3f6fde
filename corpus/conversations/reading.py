"""Examples of a data set, one row at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from corpus.conversations.examples import Example, Objective
from corpus.conversations.formats import ChatSource, Recognised, recognise
from corpus.conversations.problems import BadRow
from jobspecs.problems import InvalidInput, Problem
from storage.tabular import TableFormat, read_rows

#: Rows by which the format is recognised: fields that only later rows have can't be named.
FIRST_ROWS = 100

OnProblem = Callable[[Problem], None]
_AS_IT_IS = ChatSource()


def read_examples(
    path: Path,
    fmt: TableFormat,
    source: ChatSource = _AS_IT_IS,
    *,
    objective: Objective = "sft",
    file_name: str | None = None,
    on_problem: OnProblem | None = None,
    on_recognised: Callable[[Recognised], None] = lambda recognised: None,
) -> Iterator[Example]:
    """Streams the examples. `on_problem` is told of each row that can't be used, which is then passed over.

    `on_recognised` is told the format before the first of them.

    Raises InvalidInput when the format can't be recognised or the file not be read, and, without `on_problem`, at the
    first row that can't be used.
    """
    file = file_name or path.name
    rows = read_rows(path, fmt, file_name=file)
    first_rows = list(islice(rows, FIRST_ROWS))
    recognised = recognise(columns_of(first_rows), first_rows, source, objective)
    on_recognised(recognised)
    yield from converted(chain(first_rows, rows), recognised, file, on_problem)


def converted(
    rows: Iterable[Mapping[str, Any]], recognised: Recognised, file: str, on_problem: OnProblem | None = None
) -> Iterator[Example]:
    """The rows as examples, as `read_examples` gives them."""
    for number, row in enumerate(rows, start=1):
        try:
            example = recognised.convert(row, number)
        except BadRow as error:
            problem = error.problem(file, number)
            if on_problem is None:
                raise InvalidInput([problem]) from error
            on_problem(problem)
        else:
            yield example


def columns_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of all fields that the rows have, in the order in which they come."""
    return list(dict.fromkeys(name for row in rows for name in row))
