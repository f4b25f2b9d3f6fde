"""Was the training worth it? Order or correlation on held-out queries, with its uncertainty, beside cheaper systems.

Intervals are of a bootstrap over queries or pairs, those that share a text together; all systems see the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from corpus.bootstrap import Between, Floats, bootstrap, bootstrapped_means, interval, no_stop
from corpus.rankings import RELEVANT_MIN, ranked_queries
from jobspecs.kinds.train_reranker import RankingMetric
from workers.judging.search import CUTOFF, MRR, NDCG
from workers.judging.unclear import JUDGED_MIN, Helped, why_unclear
from workers.local_models.tokens import Int64s

_SEED = 20
#: Scores that differ by less are the same.
_SAME = 1e-6

AP, SPEARMAN, PEARSON = "average_precision", "spearman", "pearson"
_NAMES = {
    NDCG: "nDCG@10",
    MRR: "MRR",
    AP: "average precision",
    SPEARMAN: "Spearman",
    PEARSON: "Pearson",
    "recall_at_1": "recall@1",
    "recall_at_10": "recall@10",
    "recall_at_100": "recall@100",
}


@dataclass(frozen=True)
class SystemScore:
    """How one system did: the value that decides with its 95 % interval, and the other measures by name."""

    system: str
    value: float
    low: float
    high: float
    measures: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON, the measures beside the value."""
        return {"system": self.system, "value": self.value, "low": self.low, "high": self.high, **self.measures}


@dataclass(frozen=True)
class RankingVerdict:
    """The trained model beside the others. `difference`: to the best of these, with its 95 % interval."""

    #: Name of the measure that decides: `ndcg_at_10` or `spearman`.
    metric: str
    systems: tuple[SystemScore, ...]
    helped: Helped
    difference: tuple[float, float, float]
    #: Queries or pairs that were judged.
    judged: int
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """Plain JSON for manifests and reports."""
        keys = ("value", "low", "high")
        return {
            "sentence": self.sentence,
            "helped": self.helped,
            "metric": self.metric,
            "judged": self.judged,
            "difference": dict(zip(keys, self.difference, strict=True)),
            "systems": [system.as_json() for system in self.systems],
        }


@dataclass(frozen=True)
class Judged:
    """How many queries or pairs (`what`) were judged, how many independent ones, and what else to say.

    `independent` counts `shared`, such as first texts: what shares one is drawn together.
    """

    count: int
    what: str
    independent: int
    shared: str
    #: Behind the number.
    detail: str = ""
    #: Behind the sentence.
    remark: str = ""

    @property
    def counted(self) -> str:
        """For people: how many."""
        different = f" with {self.independent} different {self.shared}" if self.independent < self.count else ""
        return f"{self.count} held-out {self.what}{different}{self.detail}"

    def why_unclear(self, difference: float, low: float, high: float) -> str:
        """In what is independent: more pairs with the same first texts would tell nothing."""
        unit = self.shared if self.independent < self.count else self.what
        return why_unclear(difference, low, high, self.independent, f"held-out {unit}")


def judge_rankings(
    labels: npt.NDArray[Any],
    groups: Int64s,
    passages: Int64s,
    scores: Mapping[str, npt.NDArray[Any]],
    metric: RankingMetric,
    between: Between = no_stop,
) -> RankingVerdict:
    """The verdict over scores (N,) of held-out pairs by system; the first system is the trained one.

    `labels` (N,) go from 0 to 1; `groups` and `passages` (N,) number the pairs' queries and passages. nDCG needs one of
    `ranked_queries` at least. Queries with the same best passage are drawn together, and pairs of one query are.
    """
    labels = labels.astype(np.float64)
    if metric == NDCG:
        return _by_order(labels, groups, passages, scores, between)
    return judge_correlations(labels, scores, between, numbered(groups))


def numbered(values: npt.ArrayLike) -> Int64s:
    """(N,) numbers from 0 without gaps, the same for equal values."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def ranking_measures(labels: Floats, scores: Floats) -> tuple[float, float, float]:
    """nDCG@10 (gain = label), reciprocal rank and average precision of one query with a relevant passage.

    Equal scores are ordered by chance, the same chance for every system, never by the label.
    """
    shuffled = np.random.default_rng(_SEED).permutation(len(labels))
    ranked = labels[shuffled][np.argsort(-scores[shuffled], kind="stable")]
    discounts = 1 / np.log2(np.arange(2, 2 + min(CUTOFF, len(labels))))
    ideal = float(np.sort(labels)[::-1][: len(discounts)] @ discounts)
    relevant = np.flatnonzero(ranked >= RELEVANT_MIN)
    precisions = (np.arange(len(relevant)) + 1) / (relevant + 1)
    return float(ranked[: len(discounts)] @ discounts) / ideal, 1 / (1 + float(relevant[0])), float(precisions.mean())


def spearman(labels: Floats, scores: Floats) -> float:
    """Spearman's rank correlation; 0 where one of the two is constant."""
    return pearson(rankdata(labels), rankdata(scores))


def pearson(labels: Floats, scores: Floats) -> float:
    """Pearson's correlation; 0 where one of the two is constant."""
    x, y = labels - labels.mean(), scores - scores.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else 0.0


def correlation_of(system: str, labels: Floats, scores: Floats, between: Between = no_stop) -> SystemScore:
    """Spearman and Pearson of scores (N,) with labels (N,), the first with its 95 % interval."""
    return _score(system, SPEARMAN, _correlations(labels, scores), _spearmans(labels, [scores], between)[0])


def judge_correlations(
    labels: Floats, scores: Mapping[str, npt.NDArray[Any]], between: Between, clusters: Int64s
) -> RankingVerdict:
    """The verdict by Spearman over scores (N,) of N pairs by system; the first system is the trained one.

    `clusters` (N,), from 0 without gaps: pairs with the same first text, which are drawn together.
    """
    given = {system: values.astype(np.float64) for system, values in scores.items()}
    values = {system: _correlations(labels, own) for system, own in given.items()}
    resampled = _spearmans(labels, list(given.values()), between, clusters)
    independent = int(clusters.max()) + 1
    judged = Judged(len(labels), "pairs", independent, "first texts", remark=_remark(given))
    return compare_systems(SPEARMAN, values, resampled, judged)


def _correlations(labels: Floats, scores: Floats) -> dict[str, float]:
    return {SPEARMAN: spearman(labels, scores), PEARSON: pearson(labels, scores)}


def _spearmans(labels: Floats, systems: Sequence[Floats], between: Between, clusters: Int64s | None = None) -> Floats:
    """Correlations (V, R) of V systems' scores (N,) with the labels over resamples of the pairs or of clusters."""

    def of_resample(drawn: Int64s) -> list[float]:
        ranks = rankdata(labels[drawn])
        return [pearson(ranks, rankdata(scores[drawn])) for scores in systems]

    return bootstrap(of_resample, len(labels), between, clusters)


def _by_order(
    labels: Floats, groups: Int64s, passages: Int64s, scores: Mapping[str, npt.NDArray[Any]], between: Between
) -> RankingVerdict:
    queries = ranked_queries(labels, groups)
    clusters = numbered([passages[rows[labels[rows].argmax()]] for rows in queries])
    measured = {}
    for system, given in scores.items():
        between()
        measured[system] = np.array(
            [ranking_measures(labels[rows], given[rows].astype(np.float64)) for rows in queries]
        )
    resampled = bootstrapped_means(np.stack([values[:, 0] for values in measured.values()]), between, clusters)
    means = {
        system: dict(zip((NDCG, MRR, AP), values.mean(axis=0).tolist(), strict=True))
        for system, values in measured.items()
    }
    independent = int(clusters.max()) + 1
    judged = Judged(len(queries), "queries", independent, "answers", remark=_remark(scores))
    return compare_systems(NDCG, means, resampled, judged)


def _remark(scores: Mapping[str, npt.NDArray[Any]]) -> str:
    """What the figures don't say of a first system that gives everything one score."""
    own = next(iter(scores.values()))
    return " It gives every pair the same score." if np.ptp(own) < _SAME else ""


def compare_systems(
    metric: str,
    values: Mapping[str, dict[str, float]],
    resampled: Floats,
    judged: Judged,
) -> RankingVerdict:
    """The verdict by `metric` over all measures by system and its values (V, R) in the resamples; the first is ours."""
    systems = tuple(
        _score(system, metric, measures, own) for (system, measures), own in zip(values.items(), resampled, strict=True)
    )
    own, *others = systems
    place = 1 + max(range(len(others)), key=lambda other: others[other].value)
    best = systems[place]
    low, high = interval(resampled[0] - resampled[place])
    few = judged.independent < JUDGED_MIN
    helped: Helped = "unclear" if few else "yes" if low > 0 else "no" if high < 0 else "unclear"
    difference = (own.value - best.value, low, high)
    sentence = _sentence(metric, own, best, difference, helped, judged)
    return RankingVerdict(metric, systems, helped, difference, judged.count, sentence)


def _score(system: str, metric: str, measures: dict[str, float], resampled: Floats) -> SystemScore:
    others = {name: value for name, value in measures.items() if name != metric}
    return SystemScore(system, measures[metric], *interval(resampled), {metric: measures[metric], **others})


def _sentence(
    metric: str,
    own: SystemScore,
    best: SystemScore,
    difference: tuple[float, float, float],
    helped: Helped,
    judged: Judged,
) -> str:
    figures = f"{_NAMES[metric]} {own.value:.3f} on {judged.counted}, {best.system} {best.value:.3f}"
    if helped == "yes":
        return f"Training helped: {figures}.{judged.remark}"
    if helped == "no":
        return f"Training did not help: {figures}. The simpler system is better on these data.{judged.remark}"
    why = judged.why_unclear(*difference)
    return f"It is unclear whether training helped: {figures}. {why}{judged.remark}"


def systems_table(verdict: RankingVerdict) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Headers and rows for the model card."""
    others = [name for name in verdict.systems[0].measures if name != verdict.metric]
    headers = ("system", _NAMES[verdict.metric], "95 % interval", *(_NAMES[name] for name in others))
    rows: list[Sequence[str]] = [
        (
            system.system,
            f"{system.value:.3f}",
            f"{system.low:.3f} to {system.high:.3f}",
            *(f"{system.measures[name]:.3f}" for name in others),
        )
        for system in verdict.systems
    ]
    return headers, rows
