"""What labels of pairs can be judged by: the order of a query's passages, or how scores follow them over all pairs.

Notation: N pairs; labels (N,) from 0 to 1; groups (N,) number the pairs' queries. Checks and jobs call these functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.splits import Indices
from jobspecs.kinds.train_reranker import RankingMetric
from jobspecs.problems import InvalidInput, Problem

Labels = npt.NDArray[Any]

#: A pair with at least this label counts as relevant where a measure knows only yes and no.
RELEVANT_MIN = 0.5


def metric_of(labels: Labels, groups: Indices) -> RankingMetric:
    """What the shape of a whole data set calls for: nDCG where most pairs belong to a query with unlike labels."""
    unlike = [len(rows) for rows in rows_by_query(groups) if np.ptp(labels[rows]) > 0]
    ordered = 2 * sum(unlike) > len(labels) and ranked_queries(labels, groups)
    return "ndcg_at_10" if ordered else "spearman"


def compared(labels: Labels, groups: Indices) -> npt.NDArray[np.bool_]:
    """(N,) pairs whose query has unlike labels: all that a loss learns from, or can be measured by, that compares."""
    queries, places = np.unique(groups, return_inverse=True)
    low, high = np.full(len(queries), np.inf), np.full(len(queries), -np.inf)
    np.minimum.at(low, places, labels)
    np.maximum.at(high, places, labels)
    return np.asarray((low < high)[places])


def check_compared(labels: Labels, groups: Indices) -> None:
    """Raises InvalidInput when a loss that compares a query's passages has nothing to learn from these pairs."""
    if not compared(labels, groups).any():
        message = (
            "the loss compares the passages of a query, and no query of the training part has two with unlike labels."
        )
        remedy = "Use bce, or add passages to the queries."
        raise InvalidInput([Problem(field="loss", message=message, remedy=remedy)])


def ranked_queries(labels: Labels, groups: Indices) -> list[Indices]:
    """The rows of each query whose order can be judged: unlike labels, one of them at least relevant."""
    return [rows for rows in rows_by_query(groups) if np.ptp(labels[rows]) > 0 and labels[rows].max() >= RELEVANT_MIN]


def rows_by_query(groups: Indices) -> list[Indices]:
    """The rows of each query, ascending; the queries in the order of their numbers."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(order) else []


def check_ranked(labels: Labels, groups: Indices, metric: RankingMetric) -> None:
    """Raises InvalidInput when the metric can't be had of these held-out pairs."""
    if metric == "spearman":
        return check_scores(labels)
    if not ranked_queries(labels, groups):
        message = "no held-out query has unlike labels, one of them at least 0.5: there is no order to judge."
        remedy = "Hold out more queries (validation.fraction), or write metric: spearman."
        raise InvalidInput([Problem(field="metric", message=message, remedy=remedy)])


def check_scores(scores: Labels) -> None:
    """Raises InvalidInput when all held-out pairs have one score: every system would be as good as any other."""
    if np.ptp(scores) > 0:
        return
    message = f"all {len(scores)} held-out pairs have the same score: there is no order to judge."
    remedy = "Hold out more rows (validation.fraction), or rows with unlike scores."
    raise InvalidInput([Problem(field="validation", message=message, remedy=remedy)])
