"""Was the training worth it? The same held-out texts for the trained embedder, the untouched base and a word-based one.

Pairs with scores are judged by Spearman between score and cosine. Anchors with positives are judged as a search: each
anchor looks for its positives among the passages of the data set. Texts with classes likewise, each for its class.

Notation: Q queries, P candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer

from corpus.bootstrap import Between, bootstrapped_means, no_stop
from workers.judging.bm25 import Bm25
from workers.judging.ranking_verdict import (
    Judged,
    RankingVerdict,
    compare_systems,
    judge_correlations,
    numbered,
    spearman,
)
from workers.judging.search import MEASURES, NDCG, Relevance, Scores, search_measures
from workers.judging.waiting import waited_for
from workers.local_models.tokens import Int64s

TRAINED, BASE, BM25, TF_IDF = "trained", "base model", "BM25", "TF-IDF cosine"
_WORD = r"(?u)\b\w+\b"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Search:
    """Of searches: what each query should find, and its own place (Q,) among the candidates, -1 where it has none.

    `clusters` (Q,), from 0 without gaps: queries that look for the same text share a number; None: each is on its own.
    """

    relevance: Relevance
    own: Int64s
    clusters: Int64s | None = None


@dataclass(frozen=True)
class Exam:
    """The held-out texts. Of pairs: `queries[n]` with `candidates[n]`; of searches: every query over all candidates.

    `fields`: what the spec calls the two sides. `truth`: of pairs their scores (N,) from 0 to 1. Whatever takes long
    calls `between`, which may raise to stop it.
    """

    queries: list[str]
    candidates: list[str]
    fields: tuple[str, str]
    truth: npt.NDArray[np.float32] | Search
    #: (Q,) or (N,): the row of each in its file, of several the first.
    numbers: Int64s

    def answers(self, queries: Floats, candidates: Floats, between: Between = no_stop) -> npt.NDArray[Any]:
        """What an embedder with these unit vectors makes of it: similarities (N,), or measures (Q, M)."""
        if not isinstance(self.truth, Search):
            return np.asarray((queries * candidates).sum(axis=1))
        return self._search(self.truth, lambda start, stop: queries[start:stop] @ candidates.T, between)

    def lexical_answers(
        self, training_texts: Sequence[str], between: Between = no_stop
    ) -> tuple[str, npt.NDArray[Any]]:
        """Name and answers of the cheap system that only sees words."""
        if not isinstance(self.truth, Search):
            return TF_IDF, waited_for(lambda: self._tf_idf(training_texts), between)
        index = waited_for(lambda: Bm25(self.candidates), between)
        return BM25, self._search(
            self.truth,
            lambda start, stop: np.stack([index.scores(query) for query in self.queries[start:stop]]),
            between,
        )

    def value(self, answers: npt.NDArray[Any]) -> float:
        """The measure that decides, of one system's answers."""
        if not isinstance(self.truth, Search):
            return spearman(self.truth.astype(np.float64), answers.astype(np.float64))
        return float(answers[:, 0].mean())

    def judge(self, answers: Mapping[str, npt.NDArray[Any]], between: Between = no_stop) -> RankingVerdict:
        """The verdict over the answers by system; the first system is the trained one."""
        if not isinstance(self.truth, Search):
            return judge_correlations(self.truth.astype(np.float64), answers, between, numbered(self.queries))
        means = {
            system: dict(zip(MEASURES, measured.mean(axis=0).tolist(), strict=True))
            for system, measured in answers.items()
        }
        clusters = self.truth.clusters
        resampled = bootstrapped_means(np.stack([measured[:, 0] for measured in answers.values()]), between, clusters)
        independent = len(self.queries) if clusters is None else int(clusters.max()) + 1
        judged = Judged(len(self.queries), "queries", independent, "answers", f" over {len(self.candidates)} texts")
        return compare_systems(NDCG, means, resampled, judged)

    def _search(self, search: Search, scores: Scores, between: Between) -> npt.NDArray[np.float64]:
        return search_measures(scores, search.relevance, search.own, len(self.candidates), between)

    def _tf_idf(self, training_texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Cosines of word counts, weighed by how rare the words are in the training texts."""
        if not any(any(map(str.isalnum, text)) for text in training_texts):
            return np.zeros(len(self.queries))
        vectorizer = TfidfVectorizer(token_pattern=_WORD)
        vectorizer.fit(training_texts)
        first, second = vectorizer.transform(self.queries), vectorizer.transform(self.candidates)
        return np.asarray(first.multiply(second).sum(axis=1)).ravel()
