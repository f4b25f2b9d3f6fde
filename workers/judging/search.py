"""How well a search finds what it should: nDCG@10 and recalls of queries over all candidates, a part at a time.

Memory grows with queries plus candidates, never with their product: 10,000 texts of two classes that look for each
other took 1.1 GB when each had a list of what it should find, and take 62 MB.

Notation: Q queries, P candidates, K places of a ranking that count, M measures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from corpus.bootstrap import Between, Floats, no_stop
from workers.local_models.tokens import Int64s

NDCG = "ndcg_at_10"
#: Places of a ranking that count for nDCG.
CUTOFF = 10
RECALLS = {"recall_at_1": 1, "recall_at_10": 10, "recall_at_100": 100}
MRR = "mrr"
MEASURES = (NDCG, *RECALLS, MRR)
_PLACES = max(CUTOFF, *RECALLS.values())
#: Scores in memory at once: 16 MB, and as much again a few times for putting them into order.
_SCORES_AT_ONCE = 1 << 22
#: Candidates are put into this order first, so that equal scores are ordered by chance, the same for all systems.
_SEED = 20

Bools = npt.NDArray[np.bool_]
#: First query and the one after the last, to their scores for all candidates.
Scores = Callable[[int, int], npt.NDArray[Any]]


class Relevance(Protocol):
    """What each query should find."""

    def count(self, query: int) -> int:
        """How many candidates that are, one at least."""
        ...

    def hits(self, query: int, candidates: Int64s) -> Bools:
        """Which of these candidates (K,) are among them."""
        ...


@dataclass(frozen=True)
class Listed:
    """Each query has a list of its own."""

    candidates: tuple[Int64s, ...]

    def count(self, query: int) -> int:
        return len(self.candidates[query])

    def hits(self, query: int, candidates: Int64s) -> Bools:
        return np.isin(candidates, self.candidates[query])


class SameClass:
    """Queries that are candidates themselves, `own` (Q,), look for the others of their class; `classes` (P,)."""

    def __init__(self, own: Int64s, classes: npt.NDArray[Any]) -> None:
        _, self._classes, self._sizes = np.unique(classes, return_inverse=True, return_counts=True)
        self._own = own

    def count(self, query: int) -> int:
        return int(self._sizes[self._classes[self._own[query]]]) - 1

    def hits(self, query: int, candidates: Int64s) -> Bools:
        own = self._own[query]
        return np.asarray((self._classes[candidates] == self._classes[own]) & (candidates != own))


def search_measures(
    scores: Scores, relevance: Relevance, own: Int64s, candidates: int, between: Between = no_stop
) -> Floats:
    """`MEASURES` (Q, M) of each query. `own` (Q,): the query's place among the candidates, which doesn't count, or -1.

    `between` is called between two parts of the queries.
    """
    order = np.random.default_rng(_SEED).permutation(candidates)
    step = max(1, _SCORES_AT_ONCE // candidates)
    measured = []
    for start in range(0, len(own), step):
        between()
        given = np.array(scores(start, start + step))
        given[np.isnan(given)] = -np.inf
        known = np.flatnonzero(own[start : start + step] >= 0)
        given[known, own[start + known]] = -np.inf
        for query, places in enumerate(_best(given[:, order], _PLACES), start=start):
            measured.append(_measures(relevance.hits(query, order[places]), relevance.count(query), candidates))
    return np.array(measured)


def _best(scores: npt.NDArray[Any], count: int) -> list[Int64s]:
    """Of each row of scores (Q, P) the columns of the highest, highest first; of equal ones the first."""
    columns = scores.shape[1]
    if columns <= count:
        return list(np.argsort(-scores, axis=1, kind="stable"))
    least = np.partition(scores, columns - count, axis=1)[:, columns - count]
    found = []
    for row, bound in zip(scores, least, strict=True):
        above = np.flatnonzero(row > bound)
        chosen = np.sort(np.concatenate((above, np.flatnonzero(row == bound)[: count - len(above)])))
        found.append(chosen[np.argsort(-row[chosen], kind="stable")])
    return found


def _measures(hits: Bools, relevant: int, candidates: int) -> list[float]:
    """nDCG@10, recalls and reciprocal rank of one ranking: which of its first places hold something relevant, of so
    many there are. What stands behind them counts as not found.
    """
    discounts = 1 / np.log2(np.arange(2, 2 + min(CUTOFF, candidates)))
    ideal = discounts[:relevant].sum()
    recalls = [hits[:places].sum() / relevant for places in RECALLS.values()]
    first = 1 / (1 + float(hits.argmax())) if hits.any() else 0.0
    return [float(hits[: len(discounts)] @ discounts / ideal), *map(float, recalls), first]
