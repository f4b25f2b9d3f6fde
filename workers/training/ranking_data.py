"""Pairs of query and passage with labels from 0 to 1, read from a table and split so that no query is on both sides."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.splits import grouped_split
from jobspecs.kinds.train_reranker import TrainReranker
from jobspecs.lifecycle import Reason
from jobspecs.problems import InvalidInput, Problem
from storage.tabular import detect_format, read_rows
from workers.runners.context import RunFailed

_log = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]
Labels = npt.NDArray[np.float32]

#: A pair with at least this label counts as relevant where a measure knows only yes and no.
RELEVANT_MIN = 0.5
_TRUTH = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Pairs:
    """N pairs. `groups` (N,) numbers their queries: equal, but for case and spaces, means the same number."""

    queries: tuple[str, ...]
    passages: tuple[str, ...]
    labels: Labels
    groups: Indices

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def texts(self) -> list[tuple[str, str]]:
        """(query, passage) of each pair."""
        return list(zip(self.queries, self.passages, strict=True))

    def subset(self, rows: Indices) -> Pairs:
        """These rows, in this order."""
        return Pairs(
            tuple(self.queries[row] for row in rows),
            tuple(self.passages[row] for row in rows),
            self.labels[rows],
            self.groups[rows],
        )

    def rows_by_query(self) -> list[Indices]:
        """The rows of each query, ascending; the queries in the order of their numbers."""
        order = np.argsort(self.groups, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.groups[order])) + 1) if len(order) else []

    def with_negatives(self, negatives: dict[int, list[str]]) -> Pairs:
        """Also these passages, by row of a pair whose query they do not answer, with label 0."""
        rows = [row for row, passages in negatives.items() for _ in passages]
        return Pairs(
            self.queries + tuple(self.queries[row] for row in rows),
            self.passages + tuple(passage for passages in negatives.values() for passage in passages),
            np.concatenate([self.labels, np.zeros(len(rows), dtype=np.float32)]),
            np.concatenate([self.groups, self.groups[rows]]) if rows else self.groups,
        )


@dataclass(frozen=True)
class PairSplit:
    """The queries that train and the queries that judge, with all their pairs."""

    train: Pairs
    validation: Pairs

    @property
    def passages_in_both(self) -> int:
        """Held-out pairs whose passage the training part has seen, as passage or as query."""
        known = set(self.train.passages) | set(self.train.queries)
        return sum(passage in known for passage in self.validation.passages)


def load_pairs(path: Path, spec: TrainReranker, header: Sequence[str] | None = None) -> Pairs:
    """Reads the columns of the spec; `header` names those of a file without one.

    Raises RunFailed(invalid_dataset) with file and row for what can't be used.
    """
    try:
        rows = read_rows(path, detect_format(path.name, header), list(spec.columns.values()))
        numbered = enumerate(rows, start=1)
        if spec.positive is None:
            return _pairs(_labelled(numbered, spec, path.name))
        return _pairs(_positives_first(_contrasted(numbered, spec, path.name)))
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, str(error)) from error


def split_by_query(pairs: Pairs, spec: TrainReranker) -> PairSplit:
    """Whole queries up to `spec.rows` rows, of which a share is held out. Depends on seed and data only.

    Raises RunFailed(invalid_dataset) when there is one query only.
    """
    validation = spec.validation
    try:
        split = grouped_split(pairs.groups, rows=spec.rows, fraction=validation.fraction, seed=validation.seed)
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, str(error)) from error
    return PairSplit(train=pairs.subset(split.train), validation=pairs.subset(split.validation))


def has_rankings(pairs: Pairs) -> bool:
    """Whether most pairs belong to a query with passages of unlike labels, so that an order can be judged."""
    ranked = [len(rows) for rows in pairs.rows_by_query() if np.ptp(pairs.labels[rows]) > 0]
    return 2 * sum(ranked) > len(pairs)


_Row = tuple[str, str, float]


def _labelled(rows: Iterator[tuple[int, dict[str, Any]]], spec: TrainReranker, file: str) -> Iterator[_Row]:
    query, passage, label = (spec.columns[field] for field in ("query", "passage", "label"))
    for number, row in rows:
        value = _label(row[label], label, spec, file, number)
        yield _text(row[query], query, file, number), _text(row[passage], passage, file, number), value


def _contrasted(rows: Iterator[tuple[int, dict[str, Any]]], spec: TrainReranker, file: str) -> Iterator[_Row]:
    columns = [
        (spec.columns[field], label)
        for field, label in (("positive", 1.0), ("negative", 0.0))
        if spec.columns.get(field)
    ]
    for number, row in rows:
        query = _text(row[spec.query], spec.query, file, number)
        for column, label in columns:
            yield query, _text(row[column], column, file, number), label


def _positives_first(rows: Iterator[_Row]) -> list[_Row]:
    """Each pair once: a row repeats its query's positive beside every negative."""
    labels: dict[tuple[str, str], float] = {}
    contradictions = 0
    for query, passage, label in rows:
        known = labels.get((query, passage))
        contradictions += known is not None and known != label
        labels[query, passage] = max(label, known or 0.0)
    if contradictions:
        _log.warning("%d passages are both positive and negative for a query; they count as positive", contradictions)
    return [(query, passage, label) for (query, passage), label in labels.items()]


def _pairs(rows: Iterator[_Row] | Sequence[_Row]) -> Pairs:
    queries: list[str] = []
    passages: list[str] = []
    labels: list[float] = []
    numbers: dict[str, int] = {}
    groups: list[int] = []
    for query, passage, label in rows:
        queries.append(query)
        passages.append(passage)
        labels.append(label)
        groups.append(numbers.setdefault(" ".join(query.split()).casefold(), len(numbers)))
    return Pairs(tuple(queries), tuple(passages), np.array(labels, dtype=np.float32), np.array(groups, dtype=np.int64))


def _text(value: Any, column: str, file: str, row: int) -> str:
    text = "" if value is None else str(value).strip()
    if not text:
        message, remedy = "the cell is empty.", "Fill it or leave the row out."
        raise _invalid(Problem(file=file, row=row, field=column, message=message, remedy=remedy))
    return text


def _label(value: Any, column: str, spec: TrainReranker, file: str, row: int) -> float:
    """The label between 0 and 1."""
    text = "" if value is None else str(value).strip().lower()
    try:
        number = _TRUTH[text] if text in _TRUTH else float(text)
    except ValueError:
        message, remedy = f"{text!r} is not a number.", "Use 0 and 1, or a score within score_range."
        raise _invalid(Problem(file=file, row=row, field=column, message=message, remedy=remedy)) from None
    if spec.threshold is not None and math.isfinite(number):
        return float(number >= spec.threshold)
    low, high = spec.score_range
    if not low <= number <= high:
        message = f"{number:g} is not between {low:g} and {high:g}."
        remedy = "Mend the row, or set score_range to the least and the greatest label."
        raise _invalid(Problem(file=file, row=row, field=column, message=message, remedy=remedy))
    return (number - low) / (high - low)


def _invalid(problem: Problem) -> RunFailed:
    return RunFailed(Reason.invalid_dataset, str(problem))
