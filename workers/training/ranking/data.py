"""Pairs of query and passage with labels from 0 to 1, read from a table and split so that no query is on both sides."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.cells import number_cell, score_cell, text_cell
from corpus.splits import grouped_split
from jobspecs.dialect import Dialect
from jobspecs.kinds.train_reranker import TrainReranker
from jobspecs.lifecycle import Reason
from jobspecs.problems import InvalidInput, Problem
from storage.tabular import detect_format, read_rows
from workers.judging.ranking_verdict import rows_by_query
from workers.run.context import RunFailed

_log = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]
Labels = npt.NDArray[np.float32]


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
        return rows_by_query(self.groups)

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


def load_pairs(path: Path, spec: TrainReranker, dialect: Dialect | None = None) -> Pairs:
    """Reads the columns of the spec; `dialect` tells how the file is read.

    Raises RunFailed(invalid_dataset) with file and row for what can't be used.
    """
    try:
        rows = read_rows(path, detect_format(path.name, dialect), list(spec.columns.values()))
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


def check_comparable(pairs: Pairs) -> None:
    """Raises RunFailed(invalid_dataset) when no query has passages of unlike labels: nothing to put into an order."""
    if not any(np.ptp(pairs.labels[rows]) > 0 for rows in pairs.rows_by_query()):
        message = (
            "the loss compares the passages of a query, and no query of the training part has two with unlike labels."
        )
        raise _invalid(Problem(field="loss", message=message, remedy="Use bce, or add passages to the queries."))


_Row = tuple[str, str, float]


def _labelled(rows: Iterator[tuple[int, dict[str, Any]]], spec: TrainReranker, file: str) -> Iterator[_Row]:
    query, passage, label = (spec.columns[field] for field in ("query", "passage", "label"))
    for number, row in rows:
        value = _label(row[label], label, spec, file, number)
        yield text_cell(row[query], query, file, number), text_cell(row[passage], passage, file, number), value


def _contrasted(rows: Iterator[tuple[int, dict[str, Any]]], spec: TrainReranker, file: str) -> Iterator[_Row]:
    columns = [
        (spec.columns[field], label)
        for field, label in (("positive", 1.0), ("negative", 0.0))
        if spec.columns.get(field)
    ]
    for number, row in rows:
        query = text_cell(row[spec.query], spec.query, file, number)
        for column, label in columns:
            yield query, text_cell(row[column], column, file, number), label


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


def _label(value: Any, column: str, spec: TrainReranker, file: str, row: int) -> float:
    """The label between 0 and 1."""
    if spec.threshold is None:
        return score_cell(value, column, spec.score_range, file, row)
    return float(number_cell(value, column, file, row) >= spec.threshold)


def _invalid(problem: Problem) -> RunFailed:
    return RunFailed(Reason.invalid_dataset, str(problem))
