"""How good predicted classes are: the figures that a verdict can be about, and their intervals.

They are counted here and not by scikit-learn, which knows all of them: macro F1 of three systems in 1,000 resamples of
250 rows takes it 17 s, this file 0.16 s. A test holds both equal. Notation: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from corpus.bootstrap import Floats
from jobspecs.kinds.train_classifier import ClassMetric
from workers.local_models.tokens import Int64s

NAMES: Mapping[ClassMetric, str] = MappingProxyType(
    {
        "accuracy": "accuracy",
        "macro_f1": "macro F1",
        "balanced_accuracy": "balanced accuracy",
        "mcc": "MCC",
        "roc_auc": "ROC AUC",
    }
)


@dataclass(frozen=True)
class Predictions:
    """Classes (N,) that a system gives, and how sure it is of class 1, (N,), where there are two and that is known."""

    labels: Int64s
    scores: Floats | None = None


@dataclass(frozen=True)
class _Counts:
    """Rows per class (C,): predicted rightly, predicted at all, and true."""

    hits: Int64s
    claimed: Int64s
    rows: Int64s


def figure(metric: ClassMetric, truth: Int64s, found: Predictions, classes: int) -> float:
    """The metric over rows with the classes `truth` (N,). Classes that none of them has don't count."""
    if metric == "roc_auc":
        return _roc_auc(truth, found)
    hits = np.bincount(truth[truth == found.labels], minlength=classes)
    claimed, rows = (np.bincount(labels, minlength=classes) for labels in (found.labels, truth))
    return _COUNTED[metric](_Counts(hits, claimed, rows))


def predictions_of(probabilities: npt.NDArray[np.float32]) -> Predictions:
    """The likeliest classes by probabilities (N, C)."""
    scores = probabilities[:, 1].astype(np.float64) if probabilities.shape[1] == 2 else None
    return Predictions(probabilities.argmax(axis=1), scores)


def drawn(found: Predictions, rows: Int64s) -> Predictions:
    """The predictions for these rows."""
    return Predictions(found.labels[rows], None if found.scores is None else found.scores[rows])


def _accuracy(counts: _Counts) -> float:
    return float(counts.hits.sum() / counts.rows.sum())


def _macro_f1(counts: _Counts) -> float:
    present = counts.rows > 0
    return float((2 * counts.hits[present] / (counts.claimed + counts.rows)[present]).mean())


def _balanced_accuracy(counts: _Counts) -> float:
    present = counts.rows > 0
    return float((counts.hits[present] / counts.rows[present]).mean())


def _mcc(counts: _Counts) -> float:
    """For any number of classes (J. Gorodkin 2004); 0 where truth or predictions are one class."""
    total = float(counts.rows.sum())
    claimed, rows = counts.claimed.astype(np.float64), counts.rows.astype(np.float64)
    spread = (total**2 - claimed @ claimed) * (total**2 - rows @ rows)
    return float((total * counts.hits.sum() - claimed @ rows) / np.sqrt(spread)) if spread > 0 else 0.0


def _roc_auc(truth: Int64s, found: Predictions) -> float:
    """One half where all rows are of one class: then no order of them is better than another."""
    if found.scores is None or len(np.unique(truth)) < 2:
        return 0.5
    # The share of pairs of the two classes in the right order, by ranks: of 1,000 rows scikit-learn's takes 12 times as
    # long, and the bootstrap asks for it thousands of times.
    positive = int(truth.sum())
    ranks = float(rankdata(found.scores)[truth == 1].sum())
    return (ranks - positive * (positive + 1) / 2) / (positive * (len(truth) - positive))


_COUNTED: Mapping[ClassMetric, Callable[[_Counts], float]] = MappingProxyType(
    {"accuracy": _accuracy, "macro_f1": _macro_f1, "balanced_accuracy": _balanced_accuracy, "mcc": _mcc}
)
