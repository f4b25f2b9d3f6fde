"""How long an encoder trains: the passes that its spec gives, or (`epochs: auto`) until rows set aside get no better.

These rows are taken from those that train or, where rows of `test` judge, are those of `validation`; never those that
judge: the verdict stays one about unseen rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from corpus.splits import Indices, shares, whole_groups
from jobspecs.kinds.training import CHOOSING_ROWS_MIN, EncoderTraining
from workers.local_models.tokens import Int64s
from workers.training.loop import Evaluation, Looked
from workers.training.progress import Plan

#: Rows that train, below which none is set aside: a loss over fewer than 20 rows says nothing.
_ROWS_MIN = 200
#: Share of the rows that is set aside, and the most: 500 rows cost about 5 steps of 32 per look.
_SHARE, _ASIDE_MAX = 0.1, 500
Bools = npt.NDArray[np.bool_]
#: Looks per epoch, and the least number of steps between two.
_LOOKS_PER_EPOCH, _STEPS_BETWEEN_MIN = 4, 25
#: Looks in a row without a better figure that end the training: one epoch.
_PATIENCE = 4


class Measured(Protocol):
    """A task that tells how good its model is without training it."""

    def measure(self, batches: list[Int64s]) -> float:
        """A figure over the rows of these batches, better when lower."""


@dataclass(frozen=True)
class Course:
    """Which rows train, which are set aside (perhaps none), and the most passes over the former."""

    fit: Int64s
    aside: Int64s
    epochs: float
    #: Whether the rows set aside are those of `validation`, and none of those that train.
    given: bool = False

    def plan(self, build: Callable[[Int64s, float], Plan]) -> Plan:
        """The steps: `build` makes a plan over some rows for so many epochs, which counts them from 0."""
        return _Part(self.fit, build(self.fit, self.epochs))

    def evaluation(self, task: Measured, plan: Plan, build: Callable[[Int64s, float], Plan]) -> Evaluation | None:
        """Looks at the rows set aside during the `plan`; None where there are none."""
        if not len(self.aside):
            return None
        every = max(_STEPS_BETWEEN_MIN, plan.steps_per_epoch // _LOOKS_PER_EPOCH)
        looks = _Part(self.aside, build(self.aside, 1))
        batches = [rows for step in range(looks.steps_total) if len(rows := looks.rows(step))]
        name = "validation/loss" if self.given else "aside/loss"
        look = Looked(len(self.aside), self.given)
        return Evaluation(every, lambda: task.measure(batches), _PATIENCE, True, name, look)


def course_of(
    training: EncoderTraining,
    groups: Indices,
    strata: Indices | None = None,
    choosing: Bools | None = None,
    *,
    together: int = 1,
    telling: Bools | None = None,
) -> Course:
    """The course over N rows. Rows of one group (N,) are not separated; each stratum (N,) gives its share.

    `choosing` (N,): rows that do not train and choose in place of such as would be set aside, where enough of them can
    be looked at; at most as many. `together`: so many rows of a stratum go with each other, and stay at least: 2 where
    a row is compared with others of its class. `telling` (N,): rows whose loss says something; no other is looked at.
    Depends on the settings and these arrays alone.
    """
    rows = np.arange(len(groups), dtype=np.int64)
    nobody = np.zeros(len(rows), dtype=bool)
    others = nobody if choosing is None else choosing
    fit = rows[~others]
    if training.epochs != "auto":
        return Course(fit, rows[:0], training.epochs_of(len(fit)))
    strata = np.zeros_like(groups) if strata is None else strata
    useful = ~nobody if telling is None else telling
    candidates = rows[others & useful]
    looked = candidates[_looked_at(groups[candidates], strata[candidates], training.seed, together, len(rows))]
    if len(looked) >= CHOOSING_ROWS_MIN:
        return Course(fit, looked, training.epochs_of(len(fit)), given=True)
    candidates = rows[~others & useful]
    if len(candidates) < _ROWS_MIN:
        return Course(fit, rows[:0], training.epochs_of(len(fit)))
    aside = candidates[_set_aside(groups[candidates], strata[candidates], training.seed, together)]
    fit = np.setdiff1d(fit, aside)
    return Course(fit, aside, training.epochs_of(len(fit)))


def chosen_by(choosing: Bools | None) -> list[Bools]:
    """What the fingerprint of a run has of them: nothing where there are none, as in runs that began before."""
    if choosing is None or not choosing.any():
        return []
    # Beside so few, rows are set aside: no run that set none aside goes on as this one.
    few = choosing.sum() < CHOOSING_ROWS_MIN
    return [choosing, np.ones(1, dtype=bool)] if few else [choosing]


def _looked_at(groups: Indices, strata: Indices, seed: int, together: int, rows: int) -> Indices:
    """Places of rows that choose, as many as would be set aside at most; `rows`: how many there are in all."""
    order = np.random.default_rng([seed, rows]).permutation(len(groups))
    if together == 1:
        return np.flatnonzero(whole_groups(np.unique(groups, return_inverse=True)[1], order, _ASIDE_MAX))
    counts = np.unique(strata, return_counts=True)[1]
    return _in_shares(groups, strata, counts // together, _ASIDE_MAX // together, together, order)


def _set_aside(groups: Indices, strata: Indices, seed: int, together: int) -> Indices:
    """Places of rows that would train; each stratum keeps as many as go with each other."""
    counts = np.unique(strata, return_counts=True)[1]
    most = min(_ASIDE_MAX, int(_SHARE * len(groups))) // together
    order = np.random.default_rng([seed, len(groups)]).permutation(len(groups))
    return _in_shares(groups, strata, (counts // together - 1).clip(0), most, together, order)


def _in_shares(groups: Indices, strata: Indices, spare: Indices, most: int, together: int, order: Indices) -> Indices:
    """Whole groups by chance until each stratum has given its share of rows; a group belongs to its first row's.

    `spare`: what each stratum can give, and `most`: what they give in all, in units of `together` rows.
    """
    total = min(most, int(spare.sum()))
    dealt = np.array(shares(spare.tolist(), total, 0) if total else spare * 0) * together
    wanted = dict(zip(np.unique(strata).tolist(), dealt.tolist(), strict=True))
    sizes = np.bincount(groups)
    chosen = set()
    for row in order.tolist():
        group, stratum = int(groups[row]), int(strata[row])
        if group not in chosen and sizes[group] <= wanted[stratum]:
            chosen.add(group)
            wanted[stratum] -= int(sizes[group])
    return np.flatnonzero(np.isin(groups, sorted(chosen)))


def mean_loss(loss: Callable[[Int64s], torch.Tensor], batches: list[Int64s]) -> float:
    """The mean over rows of what `loss` gives for each batch, a scalar per row."""
    with torch.no_grad():
        losses = [float(loss(rows)) * len(rows) for rows in batches]
    return sum(losses) / sum(map(len, batches))


class _Part:
    """A plan over some rows, in numbers of the whole."""

    def __init__(self, rows: Int64s, plan: Plan) -> None:
        self._rows, self._plan = rows, plan
        self.batch_size, self.steps_per_epoch, self.steps_total = (
            plan.batch_size,
            plan.steps_per_epoch,
            plan.steps_total,
        )

    def rows(self, step: int) -> Int64s:
        """The rows of step `step`, counted from 0."""
        return self._rows[self._plan.rows(step)]
