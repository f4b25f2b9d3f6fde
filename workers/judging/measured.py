"""Figures of models on the same rows, each with its interval, and their differences in pairs.

Every figure is computed anew in the same 1,000 resamples for every model (`corpus.bootstrap` seeds itself), so that the
difference of two has an interval of its own, which is narrower than those of the two: rows that are hard for one are
hard for the other.

Notation: N rows, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from corpus.bootstrap import Between, Floats, bootstrap, interval, no_stop
from workers.judging.llm_verdict import Figure
from workers.judging.unclear import JUDGED_MIN, why_unclear
from workers.judging.verdict import mcnemar_p
from workers.local_models.tokens import Int64s

Standing = Literal["better", "worse", "unclear"]
#: Figures of which less is better.
LOWER_IS_BETTER = frozenset({"bits_per_byte", "perplexity", "calibration_error"})
#: As people call them.
NAMES: Mapping[str, str] = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "calibration_error": "expected calibration error",
    "spearman": "Spearman",
    "pearson": "Pearson",
    "ndcg_at_10": "nDCG@10",
    "mrr": "MRR",
    "average_precision": "average precision",
    "recall_at_1": "recall@1",
    "recall_at_10": "recall@10",
    "recall_at_100": "recall@100",
    "bits_per_byte": "bits per byte",
    "perplexity": "perplexity",
    "exact_match": "exact match",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "valid_json": "valid JSON",
    "preferred": "preferred by the judge",
}


@dataclass(frozen=True)
class Measured:
    """One model: its figures by name, and their values (R,) in the resamples. `right` (N,): rows that are right."""

    model: str
    figures: dict[str, Figure]
    resampled: dict[str, Floats]
    #: Independent rows, queries or texts, and what they are called.
    judged: int
    unit: str
    right: Floats | None = None
    #: More for the report: per class, confusion, calibration.
    details: dict[str, Any] = field(default_factory=dict)


def measured(
    model: str,
    statistics: Mapping[str, Callable[[Int64s], float]],
    rows: int,
    unit: str,
    between: Between = no_stop,
    clusters: Int64s | None = None,
    **more: Any,
) -> Measured:
    """`statistics`: figure -> its value for rows, some more than once; `clusters` as in `bootstrap`."""
    whole = np.arange(rows, dtype=np.int64)
    found = bootstrap(lambda drawn: [compute(drawn) for compute in statistics.values()], rows, between, clusters)
    resampled = dict(zip(statistics, found, strict=True))
    figures = {name: Figure(compute(whole), *interval(resampled[name])) for name, compute in statistics.items()}
    judged = rows if clusters is None else int(clusters.max()) + 1
    return Measured(model, figures, resampled, judged, unit, **more)


def mean_of(values: Floats) -> Callable[[Int64s], float]:
    """The statistic that is the mean of values (N,)."""
    return lambda drawn: float(values[drawn].mean())


@dataclass(frozen=True)
class Compared:
    """One model less another, by figure; `standing`: of the first, in the figure that decides."""

    first: str
    second: str
    differences: dict[str, Figure]
    standing: Standing
    #: Of McNemar's test on rows where only one is right; None where rows aren't right or wrong.
    p_value: float | None
    #: Rows that only the first has right, and only the second.
    only_first: int
    only_second: int
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """Plain JSON for manifests and reports."""
        told = {**vars(self), "differences": {name: vars(one) for name, one in self.differences.items()}}
        return told


def compared(first: Measured, second: Measured, metric: str) -> Compared:
    """The two on the same rows; `metric` decides."""
    differences = {
        name: Figure(
            figure.value - second.figures[name].value, *interval(first.resampled[name] - second.resampled[name])
        )
        for name, figure in first.figures.items()
        if name in second.figures
    }
    only_first, only_second, p_value = 0, 0, None
    if first.right is not None and second.right is not None:
        only_first = int(((first.right > 0) & (second.right == 0)).sum())
        only_second = int(((first.right == 0) & (second.right > 0)).sum())
        p_value = mcnemar_p(only_first, only_second)
    decides = differences[metric]
    standing = _standing(metric, decides, first.judged)
    sentence = _sentence(first, second, metric, decides, standing, p_value)
    return Compared(first.model, second.model, differences, standing, p_value, only_first, only_second, sentence)


def _standing(metric: str, difference: Figure, judged: int) -> Standing:
    """A difference whose interval holds 0 proves nothing, and neither do very few rows."""
    if judged < JUDGED_MIN or difference.low <= 0 <= difference.high:
        return "unclear"
    return "better" if (difference.value > 0) != (metric in LOWER_IS_BETTER) else "worse"


def _sentence(
    first: Measured, second: Measured, metric: str, difference: Figure, standing: Standing, p_value: float | None
) -> str:
    figures = (
        f"{NAMES[metric]} {first.figures[metric].value:.3f} against {second.figures[metric].value:.3f} on "
        f"{first.judged:,} {first.unit} (difference {difference.value:+.3f}, {difference.low:+.3f} to "
        f"{difference.high:+.3f}{'' if p_value is None else f'; McNemar p {p_value:.2g}'})"
    )
    if standing == "unclear":
        why = why_unclear(difference.value, difference.low, difference.high, first.judged, first.unit)
        return f"It is unclear whether {first.model} is better than {second.model}: {figures}. {why}"
    return f"{first.model} is {standing} than {second.model}: {figures}."


def flipped(first: Sequence[float], second: Sequence[float], shown: int) -> list[int]:
    """Rows on which two models differ, those first where they differ most; at most so many."""
    gained = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    changed = np.flatnonzero(gained)
    return [int(row) for row in changed[np.argsort(-np.abs(gained[changed]), kind="stable")][:shown]]
