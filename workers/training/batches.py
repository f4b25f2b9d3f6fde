"""Which rows make up each training step: a function of the step number, the seed and the data alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from workers.training.tokens import Int64s

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


def by_length(lengths: Int64s, tokens_max: int) -> Iterator[Int64s]:
    """Texts to judge in batches of at most `tokens_max`, padding included; one at least, the longest first.

    What needs most memory fails at once, and texts of similar length need little padding.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, tokens_max // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size
