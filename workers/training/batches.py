"""Which rows make up each training step: a function of the step number, the seed and the data alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import chain

import numpy as np

from workers.local_models.tokens import Int64s

#: With `grouped`, texts are sorted by length within this many batches: little padding, still random.
_WINDOW_BATCHES = 50


class BatchPlan:
    """The steps of a run over `lengths` (N,) texts; `epochs` may be a fraction. Every text once per epoch.

    `grouped` puts texts of similar length into one batch, for models that need padding.
    """

    def __init__(self, lengths: Int64s, batch_size: int, epochs: float, seed: int, *, grouped: bool) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.grouped = grouped
        self.steps_per_epoch = -(-len(lengths) // batch_size)
        self.steps_total = max(1, round(self.steps_per_epoch * epochs))
        self._epoch = lru_cache(maxsize=1)(self._batches_of_epoch)

    def rows(self, step: int) -> Int64s:
        """The rows of step `step`, counted from 0, whatever steps were asked for before."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[position]

    def _batches_of_epoch(self, epoch: int) -> list[Int64s]:
        generator = np.random.default_rng([self.seed, epoch])
        order = generator.permutation(len(self.lengths))
        if not self.grouped:
            return self._cut(order)
        window = self.batch_size * _WINDOW_BATCHES
        parts = [order[start : start + window] for start in range(0, len(order), window)]
        batches = [batch for part in parts for batch in self._cut(part[np.argsort(self.lengths[part], kind="stable")])]
        return [batches[position] for position in generator.permutation(len(batches))]

    def _cut(self, order: Int64s) -> list[Int64s]:
        return [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]


class QueryPlan:
    """The steps of a run over pairs whose losses compare all passages of a query: a query's pairs stay together.

    `queries` (N,) numbers the query of each pair. A step holds as many queries as give `batch_size` pairs on average;
    within a step the pairs of a query follow each other.
    """

    def __init__(self, queries: Int64s, batch_size: int, epochs: float, seed: int) -> None:
        self.seed = seed
        order = np.argsort(queries, kind="stable")
        self._pairs = np.split(order, np.flatnonzero(np.diff(queries[order])) + 1)
        self._queries_per_step = max(1, round(batch_size * len(self._pairs) / len(queries)))
        self.steps_per_epoch = -(-len(self._pairs) // self._queries_per_step)
        self.batch_size = -(-len(queries) // self.steps_per_epoch)
        self.steps_total = max(1, round(self.steps_per_epoch * epochs))
        self._epoch = lru_cache(maxsize=1)(self._order_of_epoch)

    def rows(self, step: int) -> Int64s:
        """The rows of step `step`, counted from 0, whatever steps were asked for before."""
        epoch, position = divmod(step, self.steps_per_epoch)
        start = position * self._queries_per_step
        chosen = np.sort(self._epoch(epoch)[start : start + self._queries_per_step])
        return np.concatenate([self._pairs[query] for query in chosen])

    def _order_of_epoch(self, epoch: int) -> Int64s:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self._pairs))


class DistinctPlan:
    """The steps of a run whose losses take a batch's other rows for negatives: no text twice in a step.

    `contents` (N, C) numbers the texts of each row. A row that would repeat a text waits for the next step of its
    epoch; what still waits when the epoch's steps are full is left out of that epoch.
    """

    def __init__(self, contents: Int64s, batch_size: int, epochs: float, seed: int) -> None:
        self._texts = [frozenset(row) for row in contents.tolist()]
        self.batch_size, self.seed = batch_size, seed
        self.steps_per_epoch = -(-len(contents) // batch_size)
        self.steps_total = max(1, round(self.steps_per_epoch * epochs))
        self._epoch = lru_cache(maxsize=1)(self._batches_of_epoch)

    def rows(self, step: int) -> Int64s:
        """The rows of step `step`, counted from 0, whatever steps were asked for before."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[position]

    def _batches_of_epoch(self, epoch: int) -> list[Int64s]:
        fresh = iter(np.random.default_rng([self.seed, epoch]).permutation(len(self._texts)).tolist())
        waiting: list[int] = []
        batches = []
        for _ in range(self.steps_per_epoch):
            queue = iter(waiting)
            batch, passed = self._batch(chain(queue, fresh))
            waiting = [*passed, *queue]
            batches.append(np.array(batch, dtype=np.int64))
        return batches

    def _batch(self, rows: Iterator[int]) -> tuple[list[int], list[int]]:
        """The first rows that fit together, and those that were passed over."""
        batch: list[int] = []
        passed: list[int] = []
        seen: set[int] = set()
        for row in rows:
            if seen.isdisjoint(self._texts[row]):
                batch.append(row)
                seen |= self._texts[row]
            else:
                passed.append(row)
            if len(batch) == self.batch_size:
                break
        return batch, passed


class TwinPlan:
    """The steps of a run that compares texts by their classes: rows go in pairs of one class, each once per epoch.

    `classes` (N,) numbers the class of each row. Without pairs, a batch of many classes would hold no positive.
    """

    def __init__(self, classes: Int64s, batch_size: int, epochs: float, seed: int) -> None:
        self._classes = classes
        self.batch_size, self.seed = batch_size, seed
        self.steps_per_epoch = -(-len(classes) // batch_size)
        self.steps_total = max(1, round(self.steps_per_epoch * epochs))
        self._epoch = lru_cache(maxsize=1)(self._order_of_epoch)

    def rows(self, step: int) -> Int64s:
        """The rows of step `step`, counted from 0, whatever steps were asked for before."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[position * self.batch_size : (position + 1) * self.batch_size]

    def _order_of_epoch(self, epoch: int) -> Int64s:
        generator = np.random.default_rng([self.seed, epoch])
        shuffled = generator.permutation(len(self._classes))
        ordered = shuffled[np.argsort(self._classes[shuffled], kind="stable")]
        ends = np.flatnonzero(np.diff(self._classes[ordered])) + 1
        twins = [rows[start : start + 2] for rows in np.split(ordered, ends) for start in range(0, len(rows), 2)]
        return np.concatenate([twins[position] for position in generator.permutation(len(twins))])
