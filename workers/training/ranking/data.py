"""Pairs of query and passage with labels from 0 to 1, read from a table and split so that no query is on both sides."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from corpus.cells import number_cell, score_cell, text_cell
from corpus.checks.findings import normalised
from corpus.held_out import DataPart
from corpus.pair_splits import overlap_of, query_split
from corpus.rankings import check_compared, check_ranked, rows_by_query
from corpus.splits import Roles
from jobspecs.data_report import Overlap
from jobspecs.kinds.train_reranker import RankingMetric, TrainReranker
from jobspecs.lifecycle import Reason
from jobspecs.problems import InvalidInput
from workers.run.context import RunFailed

_log = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]
Labels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pairs:
    """N pairs. `groups` (N,) numbers their queries: equal, but for case and spaces, means the same number.

    `numbers` (N,): the row of each in its file, counted from 1, and 0 for pairs that no row holds. `roles` (N,):
    VALIDATION or TEST where the spec says so.
    """

    queries: tuple[str, ...]
    passages: tuple[str, ...]
    labels: Labels
    groups: Indices
    numbers: Indices
    roles: Roles

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
            self.numbers[rows],
            self.roles[rows],
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
            np.concatenate([self.numbers, np.zeros(len(rows), dtype=np.int64)]),
            np.concatenate([self.roles, self.roles[rows]]) if rows else self.roles,
        )


@dataclass(frozen=True)
class PairSplit:
    """The queries that train and the queries that judge, with all their pairs.

    `fit`: those that train, and those of `validation` where `test` judges, with roles that tell which they are.
    """

    train: Pairs
    validation: Pairs
    fit: Pairs
    #: Of the data's own pairs, before negatives are mined.
    overlap: Overlap
    #: Rows that judge and whose text is among those that choose, too.
    choosing_too: int = 0


def load_pairs(parts: Sequence[DataPart], spec: TrainReranker) -> Pairs:
    """Reads the columns of the spec. Raises RunFailed(invalid_dataset) with file and row for what can't be used."""
    try:
        if spec.positive is None:
            return _pairs(_labelled(parts, spec))
        return _pairs(_positives_first(_contrasted(parts, spec)))
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, str(error)) from error


def split_by_query(pairs: Pairs, spec: TrainReranker) -> PairSplit:
    """Whole queries up to `spec.rows` rows, of which a share is held out. Depends on seed and data only.

    Raises RunFailed(invalid_dataset) when there is one query only, or the sides can't be apart as the spec wants.
    """
    numbers: dict[str, int] = {}
    texts = np.array(
        [[numbers.setdefault(normalised(text), len(numbers)) for text in pair] for pair in pairs.texts], dtype=np.int64
    ).reshape(-1, 2)
    try:
        split = query_split(spec, roles=pairs.roles, queries=pairs.groups, texts=texts)
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, str(error)) from error
    overlap = overlap_of(split, texts, ("query", "passage"))
    fitting, roles = split.fitting
    fit = replace(pairs.subset(fitting), roles=roles)
    both = split.choosing_too(np.unique(texts, axis=0, return_inverse=True)[1])
    return PairSplit(pairs.subset(split.train), pairs.subset(split.validation), fit, overlap, both)


def check_comparable(pairs: Pairs) -> None:
    """Raises RunFailed(invalid_dataset) when no query has passages of unlike labels: nothing to put into an order."""
    try:
        check_compared(pairs.labels, pairs.groups)
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, str(error)) from error


def check_judged(pairs: Pairs, metric: RankingMetric) -> None:
    """Raises RunFailed(invalid_dataset) when the metric can't be had of these held-out pairs."""
    try:
        check_ranked(pairs.labels, pairs.groups, metric)
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, str(error)) from error


class _Row(NamedTuple):
    """One pair of a row of a file."""

    query: str
    passage: str
    label: float
    number: int
    role: int


def _labelled(parts: Sequence[DataPart], spec: TrainReranker) -> Iterator[_Row]:
    query, passage, label = (spec.columns[field] for field in ("query", "passage", "label"))
    for part in parts:
        file = part.file.name
        with part.file.locating():
            for number, row in part.rows(list(spec.columns.values())):
                value = _label(row[label], label, spec, file, number)
                first, second = (text_cell(row[column], column, file, number) for column in (query, passage))
                yield _Row(first, second, value, number, part.role(number))


def _contrasted(parts: Sequence[DataPart], spec: TrainReranker) -> Iterator[_Row]:
    columns = [
        (spec.columns[field], label)
        for field, label in (("positive", 1.0), ("negative", 0.0))
        if spec.columns.get(field)
    ]
    for part in parts:
        file = part.file.name
        with part.file.locating():
            for number, row in part.rows(list(spec.columns.values())):
                query = text_cell(row[spec.query], spec.query, file, number)
                for column, label in columns:
                    passage = text_cell(row[column], column, file, number)
                    yield _Row(query, passage, label, number, part.role(number))


def _positives_first(rows: Iterator[_Row]) -> list[_Row]:
    """Each pair, but for case and spaces, once in each part of the split that the spec names: a row repeats its
    query's positive beside every negative."""
    pairs: dict[tuple[str, str, int], _Row] = {}
    contradictions = 0
    for row in rows:
        pair = normalised(row.query), normalised(row.passage), row.role
        known = pairs.setdefault(pair, row)
        contradictions += known.label != row.label
        if row.label > known.label:
            pairs[pair] = known._replace(label=row.label)
    if contradictions:
        _log.warning("%d passages are both positive and negative for a query; they count as positive", contradictions)
    return list(pairs.values())


def _pairs(rows: Iterable[_Row]) -> Pairs:
    found = list(rows)
    numbers: dict[str, int] = {}
    groups = [numbers.setdefault(normalised(row.query), len(numbers)) for row in found]
    return Pairs(
        queries=tuple(row.query for row in found),
        passages=tuple(row.passage for row in found),
        labels=np.array([row.label for row in found], dtype=np.float32),
        groups=np.array(groups, dtype=np.int64),
        numbers=np.array([row.number for row in found], dtype=np.int64),
        roles=np.array([row.role for row in found], dtype=np.int8),
    )


def _label(value: Any, column: str, spec: TrainReranker, file: str, row: int) -> float:
    """The label between 0 and 1."""
    if spec.threshold is None:
        return score_cell(value, column, spec.score_range, file, row)
    return float(number_cell(value, column, file, row) >= spec.threshold)
