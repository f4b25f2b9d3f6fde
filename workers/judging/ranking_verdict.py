"""Was the training worth it? Order or correlation on held-out queries, with its uncertainty, beside cheaper systems.

Intervals are percentiles of a bootstrap over queries (pairs, for correlations); every resample is the same for all
systems, so that their difference has an interval too (B. Efron 1979; for retrieval T. Sakai, SIGIR 2006).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from workers.training.ranking.data import RELEVANT_MIN, Pairs, has_rankings

Floats = npt.NDArray[np.float64]
Helped = Literal["yes", "no", "unclear"]

#: Places of a ranking that count for nDCG.
CUTOFF = 10
#: Fewer can prove nothing at 95 %, whatever the resamples say: chance puts all of five on one side in 1 of 16 cases.
JUDGED_MIN = 6
_RESAMPLES = 1000
_INTERVAL = (2.5, 97.5)
_SEED = 20

NDCG, MRR, AP, SPEARMAN, PEARSON = "ndcg_at_10", "mrr", "average_precision", "spearman", "pearson"
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


def judge_rankings(pairs: Pairs, scores: Mapping[str, npt.NDArray[Any]]) -> RankingVerdict:
    """The verdict over scores (N,) of the held-out pairs by system; the first system is the trained one.

    By nDCG@10 where most pairs belong to a query with passages of unlike labels, else by Spearman over all pairs.
    """
    if has_rankings(pairs):
        return _by_order(pairs, scores)
    return judge_correlations(pairs.labels.astype(np.float64), scores)


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


def correlation_of(system: str, labels: Floats, scores: Floats) -> SystemScore:
    """Spearman and Pearson of scores (N,) with labels (N,), the first with its 95 % interval."""
    resampled = np.array([spearman(labels[rows], scores[rows]) for rows in resampled_rows(len(labels))])
    return _score(system, SPEARMAN, {SPEARMAN: spearman(labels, scores), PEARSON: pearson(labels, scores)}, resampled)


def _by_order(pairs: Pairs, scores: Mapping[str, npt.NDArray[Any]]) -> RankingVerdict:
    labels = pairs.labels.astype(np.float64)
    queries = [
        rows for rows in pairs.rows_by_query() if np.ptp(labels[rows]) > 0 and labels[rows].max() >= RELEVANT_MIN
    ]
    if not queries:
        # Labels differ, but none counts as relevant: only their order can be judged.
        return judge_correlations(labels, scores)
    measured = {
        system: np.array([ranking_measures(labels[rows], given[rows].astype(np.float64)) for rows in queries])
        for system, given in scores.items()
    }
    resamples = list(resampled_rows(len(queries)))
    bootstrapped = {
        system: np.array([values[rows, 0].mean() for rows in resamples]) for system, values in measured.items()
    }
    means = {
        system: dict(zip((NDCG, MRR, AP), values.mean(axis=0).tolist(), strict=True))
        for system, values in measured.items()
    }
    return compare_systems(NDCG, means, bootstrapped, len(queries), "held-out queries")


def judge_correlations(labels: Floats, scores: Mapping[str, npt.NDArray[Any]]) -> RankingVerdict:
    """The verdict by Spearman over scores (N,) of N pairs by system; the first system is the trained one."""
    given = {system: values.astype(np.float64) for system, values in scores.items()}
    measures: dict[str, Callable[[Floats, Floats], float]] = {SPEARMAN: spearman, PEARSON: pearson}
    values = {
        system: {name: measure(labels, own) for name, measure in measures.items()} for system, own in given.items()
    }
    bootstrapped = {
        system: np.array([spearman(labels[rows], own[rows]) for rows in resampled_rows(len(labels))])
        for system, own in given.items()
    }
    return compare_systems(SPEARMAN, values, bootstrapped, len(labels), "held-out pairs")


def resampled_rows(rows: int) -> Iterator[npt.NDArray[np.int64]]:
    """Rows (N,) drawn with replacement, again and again the same ones."""
    generator = np.random.default_rng(_SEED)
    return (generator.integers(rows, size=rows) for _ in range(_RESAMPLES))


def compare_systems(
    metric: str, values: Mapping[str, dict[str, float]], bootstrapped: Mapping[str, Floats], judged: int, what: str
) -> RankingVerdict:
    """The verdict by `metric` over all measures by system and its values (R,) in the resamples; the first is ours."""
    systems = tuple(_score(system, metric, measures, bootstrapped[system]) for system, measures in values.items())
    own, *others = systems
    best = max(others, key=lambda other: other.value)
    low, high = _interval(bootstrapped[own.system] - bootstrapped[best.system])
    helped: Helped = "unclear" if judged < JUDGED_MIN else "yes" if low > 0 else "no" if high < 0 else "unclear"
    difference = (own.value - best.value, low, high)
    return RankingVerdict(
        metric, systems, helped, difference, judged, _sentence(metric, own, best, helped, judged, what)
    )


def _score(system: str, metric: str, measures: dict[str, float], bootstrapped: Floats) -> SystemScore:
    others = {name: value for name, value in measures.items() if name != metric}
    return SystemScore(system, measures[metric], *_interval(bootstrapped), {metric: measures[metric], **others})


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.percentile(values, _INTERVAL).tolist()
    return low, high


def _sentence(metric: str, own: SystemScore, best: SystemScore, helped: Helped, judged: int, what: str) -> str:
    figures = f"{_NAMES[metric]} {own.value:.3f} on {judged} {what}, {best.system} {best.value:.3f}"
    if helped == "yes":
        return f"Training helped: {figures}."
    if helped == "no":
        return f"Training did not help: {figures}. The simpler system is better on these data."
    return f"It is unclear whether training helped: {figures}. The difference may be chance."


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
