"""Intervals by the percentile bootstrap: figures over rows drawn with replacement (B. Efron 1979).

Every resample is the same for all systems that are compared, so that their difference has an interval too (for
retrieval T. Sakai, SIGIR 2006). One resample is in memory at a time, and a run may be stopped between two.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
#: Called between two parts of a long computation; may raise to stop it.
Between = Callable[[], None]

RESAMPLES = 1000
#: Ends of the interval of 95 %, in percent.
_ENDS = (2.5, 97.5)
_SEED = 20


def no_stop() -> None:
    """For computations that nobody wants to stop."""


def bootstrap(
    statistic: Callable[[Int64s], npt.ArrayLike], rows: int, between: Between = no_stop, clusters: Int64s | None = None
) -> Floats:
    """Figures (V, R) of R resamples. `statistic` gives V figures of rows (N,), of which some occur more than once.

    `clusters` (N,), numbered from 0 without gaps: rows of a cluster are no independent witnesses, so whole clusters
    are drawn (C. A. Field, A. H. Welsh 2007).
    """
    generator = np.random.default_rng(_SEED)
    if clusters is not None:
        ends = np.cumsum(np.bincount(clusters))[:-1]
        members = np.split(np.argsort(clusters, kind="stable"), ends)
        rows = len(members)
    found = []
    for _ in range(RESAMPLES):
        between()
        drawn = generator.integers(rows, size=rows)
        if clusters is not None and rows < len(clusters):
            drawn = np.concatenate([members[cluster] for cluster in drawn])
        found.append(np.asarray(statistic(drawn), dtype=np.float64))
    return np.stack(found, axis=1)


def bootstrapped_means(table: Floats, between: Between = no_stop, clusters: Int64s | None = None) -> Floats:
    """Means (V, R) of V figures each of N rows, (V, N), over resamples of the rows, or whole `clusters` of them."""
    if clusters is None:
        return bootstrap(lambda drawn: table[:, drawn].mean(axis=1), table.shape[1], between)
    sizes = np.bincount(clusters)
    sums = np.stack([np.bincount(clusters, weights=values) for values in table])
    return bootstrap(lambda drawn: sums[:, drawn].sum(axis=1) / sizes[drawn].sum(), len(sizes), between)


def interval(resampled: Floats) -> tuple[float, float]:
    """Both ends of the 95 % interval of a figure with these values (R,) in the resamples."""
    low, high = np.percentile(resampled, _ENDS).tolist()
    return low, high
