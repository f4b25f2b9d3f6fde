"""Was the fine-tuning worth it? Accuracy with its uncertainty, beside cheap systems on the same held-out rows.

The interval is Wilson's score interval (E. B. Wilson 1927); the comparison is McNemar's test on the rows where two
systems disagree (Q. McNemar 1947), exact for up to 1,000 of them, with continuity correction beyond.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from workers.local_models.tokens import Int64s

#: Two-sided 95 % of the normal distribution.
_Z_95 = 1.959963984540054
#: A difference that chance alone brings about more often than this proves nothing.
_P_MAX = 0.05
_EXACT_MAX = 1000

Helped = Literal["yes", "no", "unclear"]


@dataclass(frozen=True)
class ClassScore:
    """Precision, recall and F1 of one class, each 0 to 1, and its rows in the held-out part."""

    precision: float
    recall: float
    f1: float
    rows: int


@dataclass(frozen=True)
class Score:
    """How one system did. Accuracy with its 95 % interval, macro F1; all 0 to 1."""

    system: str
    correct: int
    rows: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    per_class: dict[str, ClassScore]


@dataclass(frozen=True)
class Verdict:
    """The fine-tuned model beside the baselines. `sentence` says it in plain words."""

    model: Score
    baselines: tuple[Score, ...]
    helped: Helped
    #: Chance of a difference at least this large between equally good systems.
    p_value: float
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """Plain JSON for manifests and reports."""
        return asdict(self)


def wilson_interval(correct: int, rows: int) -> tuple[float, float]:
    """95 % score interval of a share; (0, 1) for no rows."""
    if rows == 0:
        return 0.0, 1.0
    share, z2 = correct / rows, _Z_95**2
    middle = share + z2 / (2 * rows)
    half = _Z_95 * math.sqrt(share * (1 - share) / rows + z2 / (4 * rows**2))
    scale = 1 + z2 / rows
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def score(system: str, truth: Int64s, predicted: Int64s, classes: Sequence[str]) -> Score:
    """Judges predictions (N,) against the truth (N,). A class that is never predicted has precision 0."""
    per_class = {name: _class_score(truth == index, predicted == index) for index, name in enumerate(classes)}
    correct = int((truth == predicted).sum())
    low, high = wilson_interval(correct, len(truth))
    present = [entry.f1 for entry in per_class.values() if entry.rows]
    return Score(
        system=system,
        correct=correct,
        rows=len(truth),
        accuracy=correct / len(truth),
        accuracy_low=low,
        accuracy_high=high,
        macro_f1=sum(present) / len(present),
        per_class=per_class,
    )


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Two-sided p-value for two systems of which each alone is right on so many rows."""
    rows = only_first + only_second
    if rows == 0:
        return 1.0
    if rows > _EXACT_MAX:
        statistic = max(0, abs(only_first - only_second) - 1) ** 2 / rows
        return math.erfc(math.sqrt(statistic / 2))
    tail = sum(math.comb(rows, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / (1 << rows))


def judge(
    truth: Int64s, classes: Sequence[str], model: Int64s, baselines: dict[str, Int64s], name: str = "fine-tuned"
) -> Verdict:
    """The verdict over predictions (N,) of the model and of each baseline; the best baseline is what it must beat."""
    own = score(name, truth, model, classes)
    others = tuple(score(system, truth, predicted, classes) for system, predicted in baselines.items())
    best = max(others, key=lambda other: other.correct)
    right, right_best = model == truth, baselines[best.system] == truth
    p_value = mcnemar_p(int((right & ~right_best).sum()), int((~right & right_best).sum()))
    helped: Helped = "unclear" if p_value >= _P_MAX else "yes" if own.correct > best.correct else "no"
    return Verdict(own, others, helped, p_value, _sentence(own, best, helped))


def _sentence(own: Score, best: Score, helped: Helped) -> str:
    figures = f"{own.accuracy:.1%} of {own.rows} held-out rows right, {best.system} {best.accuracy:.1%}"
    if helped == "yes":
        return f"Fine-tuning helped: {figures}."
    if helped == "no":
        return f"Fine-tuning did not help: {figures}. The simpler system is better on these data."
    return f"It is unclear whether fine-tuning helped: {figures}. The difference may be chance."


def _class_score(truth: np.ndarray[Any, Any], predicted: np.ndarray[Any, Any]) -> ClassScore:
    hits, claimed, rows = int((truth & predicted).sum()), int(predicted.sum()), int(truth.sum())
    precision = hits / claimed if claimed else 0.0
    recall = hits / rows if rows else 0.0
    f1 = 2 * hits / (claimed + rows) if claimed + rows else 0.0
    return ClassScore(precision, recall, f1, rows)
