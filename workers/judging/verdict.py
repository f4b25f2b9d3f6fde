"""Was the fine-tuning worth it? One metric with its uncertainty, beside cheap systems on the same held-out rows.

Accuracy has Wilson's score interval (E. B. Wilson 1927) and is compared by McNemar's test on the rows where two systems
disagree (Q. McNemar 1947), exact for up to 1,000 of them, with continuity correction beyond. Other metrics and every
difference have intervals of a bootstrap over rows, the same resamples for all systems.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from corpus.bootstrap import Between, bootstrap, interval, no_stop
from corpus.labels import one_class_held_out
from jobspecs.kinds.train_classifier import ClassMetric
from jobspecs.references import TFIDF_SVM
from workers.judging.baselines import SVM
from workers.judging.class_metrics import NAMES, Predictions, drawn, figure
from workers.judging.unclear import JUDGED_MIN, Helped, why_unclear
from workers.local_models.tokens import Int64s

#: Two-sided 95 % of the normal distribution.
_Z_95 = 1.959963984540054
#: A difference that chance alone brings about more often than this proves nothing.
_P_MAX = 0.05
_EXACT_MAX = 1000
_IGNORED_SHOWN = 5

MODEL = "fine-tuned"
#: The linear model that is built in, when it is the one that was trained.
LINEAR = "linear, with character n-grams"


@dataclass(frozen=True)
class ClassScore:
    """Precision, recall and F1 of one class, each 0 to 1, and its rows in the held-out part."""

    precision: float
    recall: float
    f1: float
    rows: int


@dataclass(frozen=True)
class Score:
    """How one system did. Accuracy with its 95 % interval, macro F1, all 0 to 1; `value`: the metric that decides."""

    system: str
    correct: int
    rows: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    value: float
    low: float
    high: float
    per_class: dict[str, ClassScore]


@dataclass(frozen=True)
class Difference:
    """By how much the model is better than the best baseline, in the metric that decides, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """The fine-tuned model beside the baselines. `sentence` says it in plain words."""

    metric: ClassMetric
    model: Score
    baselines: tuple[Score, ...]
    difference: Difference
    helped: Helped
    #: Chance of a difference in accuracy at least this large between equally good systems.
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


def score(
    system: str,
    truth: Int64s,
    found: Predictions,
    classes: Sequence[str],
    metric: ClassMetric = "accuracy",
    ends: tuple[float, float] | None = None,
) -> Score:
    """Judges predictions for rows with the classes `truth` (N,). A class that is never predicted has precision 0.

    `ends`: the interval of the metric, where it isn't the accuracy's.
    """
    per_class = {name: _class_score(truth == index, found.labels == index) for index, name in enumerate(classes)}
    correct = int((truth == found.labels).sum())
    accuracy_ends = wilson_interval(correct, len(truth))
    low, high = ends or accuracy_ends
    return Score(
        system=system,
        correct=correct,
        rows=len(truth),
        accuracy=correct / len(truth),
        accuracy_low=accuracy_ends[0],
        accuracy_high=accuracy_ends[1],
        macro_f1=figure("macro_f1", truth, found, len(classes)),
        value=figure(metric, truth, found, len(classes)),
        low=low,
        high=high,
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
    truth: Int64s,
    classes: Sequence[str],
    model: Predictions,
    baselines: dict[str, Predictions],
    metric: ClassMetric = "accuracy",
    *,
    largest: int | None = None,
    between: Between = no_stop,
    system: str = MODEL,
) -> Verdict:
    """The verdict over predictions of the model and of each baseline; the one with the best metric must be beaten.

    `system`: what the model is called, MODEL or LINEAR. `largest`: the largest class of the rows that trained.
    `between` is called between resamples, and may raise to stop.
    """
    systems = {system: model, **baselines}
    resampled = bootstrap(
        lambda rows: [figure(metric, truth[rows], drawn(found, rows), len(classes)) for found in systems.values()],
        len(truth),
        between,
    )
    own, *others = (
        score(name, truth, found, classes, metric, None if metric == "accuracy" else interval(values))
        for (name, found), values in zip(systems.items(), resampled, strict=True)
    )
    place = max(range(len(others)), key=lambda position: (others[position].value, others[position].correct))
    best = others[place]
    difference = Difference(own.value - best.value, *interval(resampled[0] - resampled[1 + place]))
    right, right_best = model.labels == truth, baselines[best.system].labels == truth
    p_value = mcnemar_p(int((right & ~right_best).sum()), int((~right & right_best).sum()))
    # Whatever the others do: what always says the largest class is no better than saying so, where classes decide.
    nothing_learnt = metric != "roc_auc" and largest is not None and bool((model.labels == largest).all())
    helped: Helped = "no" if nothing_learnt else _helped(metric, difference, p_value, len(truth))
    one_class = one_class_held_out(truth, classes)
    helped = helped if one_class is None else "unclear"
    said = [_sentence(metric, own, best, difference, helped)]
    if helped == "unclear" and one_class is None:
        said.append(why_unclear(difference.value, difference.low, difference.high, own.rows))
    if helped != "yes" and system == MODEL and best.system == SVM:
        said.append(f"One like it is trained in seconds with model: {TFIDF_SVM}.")
    sentence = " ".join([*said, *remarks(truth, model, classes, largest, metric)])
    return Verdict(metric, own, tuple(others), difference, helped, p_value, sentence)


def remarks(
    truth: Int64s, model: Predictions, classes: Sequence[str], largest: int | None, metric: ClassMetric = "accuracy"
) -> list[str]:
    """What the figures alone don't say of a model that predicts one class, or never some that are there."""
    rows = np.bincount(truth, minlength=len(classes))
    claimed = np.bincount(model.labels, minlength=len(classes))
    if (one := one_class_held_out(truth, classes)) is not None:
        return [one]
    if (claimed > 0).sum() == 1:
        only = int(claimed.argmax())
        nothing = ": it has learnt nothing beyond the majority" if only == largest and metric != "roc_auc" else ""
        return [f"It predicts {classes[only]!r} for every row{nothing}."]
    ignored = [f"{classes[place]!r} ({rows[place]})" for place in np.flatnonzero((claimed == 0) & (rows > 0)).tolist()]
    if not ignored:
        return []
    more = f" and {len(ignored) - _IGNORED_SHOWN} more" if len(ignored) > _IGNORED_SHOWN else ""
    return [f"It never predicts (held-out rows in brackets) {', '.join(ignored[:_IGNORED_SHOWN])}{more}."]


def _helped(metric: ClassMetric, difference: Difference, p_value: float, rows: int) -> Helped:
    """A difference that may be chance proves nothing, and neither do very few rows."""
    chance = p_value >= _P_MAX if metric == "accuracy" else difference.low <= 0 <= difference.high
    if chance or rows < JUDGED_MIN:
        return "unclear"
    return "yes" if difference.value > 0 else "no"


def _sentence(metric: ClassMetric, own: Score, best: Score, difference: Difference, helped: Helped) -> str:
    figures = f"{own.accuracy:.1%} of {own.rows} held-out rows right, {best.system} {best.accuracy:.1%}"
    if metric != "accuracy":
        figures = (
            f"{NAMES[metric]} {own.value:.3f} on {own.rows} held-out rows, {best.system} {best.value:.3f} (difference "
            f"{difference.value:+.3f}, {difference.low:+.3f} to {difference.high:+.3f}); "
            f"{own.accuracy:.1%} right against {best.accuracy:.1%}"
        )
    training = "Fine-tuning" if own.system == MODEL else "Training"
    if helped == "yes":
        return f"{training} helped: {figures}."
    if helped == "no":
        compared = "better" if own.value < best.value else "as good"
        return f"{training} did not help: {figures}. The simpler system is {compared} on these data."
    return f"It is unclear whether {training.lower()} helped: {figures}."


def _class_score(truth: np.ndarray[Any, Any], predicted: np.ndarray[Any, Any]) -> ClassScore:
    hits, claimed, rows = int((truth & predicted).sum()), int(predicted.sum()), int(truth.sum())
    precision = hits / claimed if claimed else 0.0
    recall = hits / rows if rows else 0.0
    f1 = 2 * hits / (claimed + rows) if claimed + rows else 0.0
    return ClassScore(precision, recall, f1, rows)
