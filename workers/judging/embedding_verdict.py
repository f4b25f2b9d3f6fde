"""Was the training worth it? The same held-out texts for the trained embedder, the untouched base and a word-based one.

Pairs with scores are judged by Spearman between score and cosine. Anchors with positives are judged as a search: each
anchor looks for its positives among all held-out passages. Texts with classes likewise: each looks for its own class.

Notation: Q queries, P candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer

from jobspecs.lifecycle import Reason
from jobspecs.problems import Problem
from workers.judging.bm25 import Bm25
from workers.judging.ranking_verdict import (
    CUTOFF,
    NDCG,
    RankingVerdict,
    compare_systems,
    judge_correlations,
    resampled_rows,
    spearman,
)
from workers.local_models.tokens import Int64s
from workers.run.context import RunFailed
from workers.training.embedding.data import EmbeddingRows

TRAINED, BASE, BM25, TF_IDF = "trained", "base model", "BM25", "TF-IDF cosine"
_RECALLS = {"recall_at_1": 1, "recall_at_10": 10, "recall_at_100": 100}
_MEASURES = (NDCG, *_RECALLS)
_WORD = r"(?u)\b\w+\b"
_QUERIES_AT_ONCE = 512
#: Candidates are put into this order first, so that equal scores are ordered by chance, the same for all systems.
_SEED = 20

Floats = npt.NDArray[np.float32]
#: First query and the one after the last, to their scores for all candidates.
Scores = Callable[[int, int], npt.NDArray[Any]]


@dataclass(frozen=True)
class Exam:
    """The held-out texts. Of pairs: `queries[n]` with `candidates[n]`; of searches: every query over all candidates.

    `fields`: what the spec calls the two sides.
    """

    queries: list[str]
    candidates: list[str]
    fields: tuple[str, str]
    #: Of pairs: their scores (N,) from 0 to 1.
    scores: npt.NDArray[np.float32] | None = None
    #: Of searches: by query the places of what it should find, and of what doesn't count, ascending.
    relevant: tuple[Int64s, ...] = ()
    ignored: tuple[Int64s, ...] = ()

    def answers(self, queries: Floats, candidates: Floats) -> npt.NDArray[Any]:
        """What an embedder with these unit vectors makes of it: similarities (N,), or measures (Q, M)."""
        if self.scores is not None:
            return np.asarray((queries * candidates).sum(axis=1))
        return self._search(lambda start, stop: queries[start:stop] @ candidates.T)

    def lexical_answers(self, training_texts: Sequence[str]) -> tuple[str, npt.NDArray[Any]]:
        """Name and answers of the cheap system that only sees words."""
        if self.scores is not None:
            return TF_IDF, self._tf_idf(training_texts)
        index = Bm25(self.candidates)
        return BM25, self._search(
            lambda start, stop: np.stack([index.scores(query) for query in self.queries[start:stop]])
        )

    def value(self, answers: npt.NDArray[Any]) -> float:
        """The measure that decides, of one system's answers."""
        if self.scores is not None:
            return spearman(self.scores.astype(np.float64), answers.astype(np.float64))
        return float(answers[:, 0].mean())

    def judge(self, answers: Mapping[str, npt.NDArray[Any]]) -> RankingVerdict:
        """The verdict over the answers by system; the first system is the trained one."""
        if self.scores is not None:
            return judge_correlations(self.scores.astype(np.float64), answers)
        resamples = list(resampled_rows(len(self.queries)))
        means = {
            system: dict(zip(_MEASURES, measured.mean(axis=0).tolist(), strict=True))
            for system, measured in answers.items()
        }
        bootstrapped = {
            system: np.array([measured[rows, 0].mean() for rows in resamples]) for system, measured in answers.items()
        }
        what = f"held-out queries over {len(self.candidates)} texts"
        return compare_systems(NDCG, means, bootstrapped, len(self.queries), what)

    def _search(self, scores: Scores) -> npt.NDArray[np.float64]:
        """nDCG@10 and recalls (Q, M). `scores(start, stop)` gives those of some queries for all candidates."""
        order = np.random.default_rng(_SEED).permutation(len(self.candidates))
        measured = []
        for start in range(0, len(self.queries), _QUERIES_AT_ONCE):
            for query, row in enumerate(scores(start, start + _QUERIES_AT_ONCE), start=start):
                given = row.astype(np.float64)
                given[self.ignored[query]] = -np.inf
                ranked = order[np.argsort(-given[order], kind="stable")]
                measured.append(_measures(np.isin(ranked, self.relevant[query]), len(self.relevant[query])))
        return np.array(measured)

    def _tf_idf(self, training_texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Cosines of word counts, weighed by how rare the words are in the training texts."""
        if not any(any(map(str.isalnum, text)) for text in training_texts):
            return np.zeros(len(self.queries))
        vectorizer = TfidfVectorizer(token_pattern=_WORD)
        vectorizer.fit(training_texts)
        first, second = vectorizer.transform(self.queries), vectorizer.transform(self.candidates)
        return np.asarray(first.multiply(second).sum(axis=1)).ravel()


def exam_of(rows: EmbeddingRows) -> Exam:
    """What the held-out rows ask. Raises RunFailed(invalid_dataset) when no class has two texts there."""
    if rows.fields[0] == "sentence1":
        return Exam(rows.column(0), rows.column(1), ("sentence1", "sentence2"), rows.targets)
    if rows.targets is not None:
        return _by_class(rows, rows.targets)
    candidates = np.unique(rows.columns[:, 1:])
    place_of = {text: place for place, text in enumerate(candidates.tolist())}
    relevant: dict[int, set[int]] = {}
    for anchor, positive in rows.columns[:, :2].tolist():
        relevant.setdefault(anchor, set()).add(place_of[positive])
    own = [{place_of[anchor]} - found if anchor in place_of else set() for anchor, found in relevant.items()]
    return Exam(
        [rows.texts[anchor] for anchor in relevant],
        [rows.texts[text] for text in candidates],
        ("anchor", "positive"),
        relevant=tuple(_places(found) for found in relevant.values()),
        ignored=tuple(_places(ignored) for ignored in own),
    )


def _by_class(rows: EmbeddingRows, classes: npt.NDArray[np.float32]) -> Exam:
    """Each text is a query; the others of its class are what it should find. A class with one text asks nothing."""
    texts = rows.column(0)
    mates = [np.flatnonzero(classes == own) for own in classes]
    asking = [row for row, found in enumerate(mates) if len(found) > 1]
    if not asking:
        problem = Problem(
            field="validation.fraction",
            message=f"no class has two of the {len(rows)} held-out texts: there is nothing to judge by.",
            remedy="Raise validation.fraction or add rows.",
        )
        raise RunFailed(Reason.invalid_dataset, str(problem))
    return Exam(
        [texts[row] for row in asking],
        texts,
        ("text", "text"),
        relevant=tuple(mates[row][mates[row] != row] for row in asking),
        ignored=tuple(np.array([row]) for row in asking),
    )


def _measures(hits: npt.NDArray[np.bool_], relevant: int) -> list[float]:
    """nDCG@10 and recalls of one ranking: which of its places hold something relevant, of so many there are."""
    discounts = 1 / np.log2(np.arange(2, 2 + min(CUTOFF, len(hits))))
    ideal = discounts[:relevant].sum()
    recalls = [hits[:places].sum() / relevant for places in _RECALLS.values()]
    return [float(hits[: len(discounts)] @ discounts / ideal), *map(float, recalls)]


def _places(found: set[int]) -> Int64s:
    return np.array(sorted(found), dtype=np.int64)
