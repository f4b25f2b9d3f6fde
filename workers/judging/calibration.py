"""Whether a classifier is right as often as it is sure: the calibration curve and its expected error.

Rows go into ten bins of equal width by the probability of the class that was predicted; the expected calibration error
is the mean distance of how often a bin is right from how sure it was, by rows (M. P. Naeini et al., AAAI 2015).

Notation: N rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from corpus.bootstrap import Floats
from workers.local_models.tokens import Int64s

BINS = 10


def calibration_error(right: Floats, sure: Floats) -> float:
    """Of rows that are right (N,), 1 or 0, with the probabilities (N,) of what was predicted; 0 is best, 1 worst."""
    bins = _bins(sure)
    distance = np.bincount(bins, right, BINS) - np.bincount(bins, sure, BINS)
    return float(np.abs(distance).sum() / len(sure))


def calibration_curve(right: Floats, sure: Floats) -> list[dict[str, Any]]:
    """Each bin that holds rows: its ends, how many, how sure on average, and the share that is right."""
    bins = _bins(sure)
    counts = np.bincount(bins, minlength=BINS)
    sums = np.bincount(bins, sure, BINS), np.bincount(bins, right, BINS)
    return [
        {
            "low": place / BINS,
            "high": (place + 1) / BINS,
            "rows": int(counts[place]),
            "sure": float(sums[0][place] / counts[place]),
            "right": float(sums[1][place] / counts[place]),
        }
        for place in np.flatnonzero(counts).tolist()
    ]


def _bins(sure: Floats) -> Int64s:
    return np.minimum((sure * BINS).astype(np.int64), BINS - 1)
