"""What is known of the rows beside what models say of them: read once, in the order of the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from corpus.asking import Asked, Asking
from corpus.cells import label_cell, number_cell, text_cell
from jobspecs.kinds.evaluate import Evaluate
from workers.predicting.table_rows import TableRows

#: Characters of a text that a report shows.
_SHOWN_CHARS = 200


@dataclass
class Truth:
    """N rows: what should be said of each (a class, a score, an answer), and the texts that it is about."""

    #: Classes or answers; None in a row without one.
    wanted: list[str | None] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    #: What ties rows together: the query, or the first text of a pair.
    groups: list[str] = field(default_factory=list)
    passages: list[str] = field(default_factory=list)
    #: The beginning of what was asked, for reports.
    shown: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.shown)


def truth_of(table: TableRows, spec: Evaluate) -> Truth:
    """Raises RunFailed(invalid_dataset) with the row for what can't be used."""
    truth, columns = Truth(), _texts(spec)
    for number, row in enumerate(table, start=1):
        first, second = (table.cell(text_cell, row, column, number) for column in columns) if columns else ("", "")
        if spec.task == "classification":
            truth.wanted.append(table.cell(label_cell, row, str(spec.label), number))
        elif spec.task in ("similarity", "reranking"):
            column = spec.score if spec.task == "similarity" else spec.label
            truth.numbers.append(table.cell(number_cell, row, str(column), number))
        if spec.task == "generation":
            asked = asked_of(table, spec, row, number)
            first, wanted = asked.text, asked.answered
            if spec.reference is not None:
                wanted = table.cell(text_cell, row, spec.reference, number)
            truth.wanted.append(wanted)
        truth.groups.append(first)
        truth.passages.append(second)
        truth.shown.append(first if len(first) <= _SHOWN_CHARS else f"{first[: _SHOWN_CHARS - 1]}…")
    return truth


def asked_of(table: TableRows, spec: Evaluate, row: dict[str, Any], number: int) -> Asked:
    """What a language model is asked of the row."""
    return table.located(lambda: Asking(spec.prompt, spec.system, spec.messages).of(row), number)


def questions(table: TableRows, spec: Evaluate) -> Iterator[Asked]:
    """What is asked of each row."""
    for number, row in enumerate(table, start=1):
        yield asked_of(table, spec, row, number)


def _texts(spec: Evaluate) -> tuple[str, str] | None:
    if spec.text is not None:
        return spec.text, spec.text
    if spec.query is not None and spec.passage is not None:
        return spec.query, spec.passage
    return spec.pair
