"""Where to look next: the tree-structured Parzen estimator of optuna (arXiv:2304.11127), asked anew each time.

Nothing of it is kept: a study in memory is filled from the rows of the trials, and the seed is the sweep's and
the trial's number. The same rows give the same values, whichever scheduler asks.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from jobspecs.sweeps.document import Range
from jobspecs.sweeps.space import Dimension, point, points

optuna.logging.set_verbosity(optuna.logging.ERROR)

#: Trials by chance before the estimator has a say, and draws until one was not tried yet.
_STARTUP_TRIALS, _DRAWS_MAX = 8, 20


@dataclass(frozen=True)
class Tried:
    """A trial that was begun: `value` once it was measured, `losses` (rung -> loss) of one that has stopped."""

    values: dict[str, Any]
    value: float | None = None
    losses: Sequence[float] = ()
    ended: bool = False


def suggested(
    dimensions: Sequence[Dimension], tried: Sequence[Tried], *, seed: int, goal: Literal["max", "min"]
) -> dict[str, Any]:
    """The values of the trial that follows; in a counted space none that was tried, while there are others."""
    total = points(dimensions)
    known = [trial.values for trial in tried]
    for draw in range(_DRAWS_MAX):
        found = _asked(dimensions, tried, seed + 7919 * len(tried) + 104729 * draw, goal)
        if total is None or found not in known:
            return found
    return next(values for place in count() if (values := point(dimensions, place % (total or 1))) not in known)


def _asked(
    dimensions: Sequence[Dimension], tried: Sequence[Tried], seed: int, goal: Literal["max", "min"]
) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # Those that run count as bad ones, so that several at once do not look at one place.
        sampler = TPESampler(seed=seed % 2**32, multivariate=True, constant_liar=True, n_startup_trials=_STARTUP_TRIALS)
    study = optuna.create_study(sampler=sampler, direction="maximize" if goal == "max" else "minimize")
    distributions = {dimension.field: _distribution(dimension) for dimension in dimensions}
    for trial in tried:
        study.add_trial(_frozen(dimensions, distributions, trial, -1 if goal == "max" else 1))
    asked = study.ask(distributions)
    return {dimension.field: _meant(dimension, asked.params[dimension.field]) for dimension in dimensions}


def _distribution(dimension: Dimension) -> BaseDistribution:
    domain = dimension.domain
    if not isinstance(domain, Range):
        return CategoricalDistribution(range(len(domain)))
    log = domain.scale == "log"
    if domain.whole:
        step = int(domain.step or 1)
        # The last whole step within the range, as optuna wants it.
        high = int(domain.high) - (int(domain.high) - int(domain.low)) % step
        return IntDistribution(int(domain.low), high, log=log, step=step)
    if domain.step is not None:
        return IntDistribution(0, (dimension.size or 1) - 1)
    return FloatDistribution(float(domain.low), float(domain.high), log=log)


def _meant(dimension: Dimension, asked: Any) -> Any:
    """The value that an answer of optuna's stands for."""
    domain = dimension.domain
    if not isinstance(domain, Range) or (domain.step is not None and not domain.whole):
        return dimension.value(int(asked))
    # Six digits say all that a search can know, and people read them.
    return int(asked) if domain.whole else min(max(float(f"{asked:.6g}"), float(domain.low)), float(domain.high))


def _said(dimension: Dimension, value: Any) -> Any:
    """What optuna calls a value."""
    domain = dimension.domain
    if not isinstance(domain, Range):
        return list(domain).index(value)
    if domain.step is not None and not domain.whole:
        return round((value - domain.low) / domain.step)
    return value


def _frozen(
    dimensions: Sequence[Dimension], distributions: dict[str, BaseDistribution], trial: Tried, sign: int
) -> FrozenTrial:
    """`sign`: that of a loss, as the study wants it."""
    state = TrialState.RUNNING
    if trial.value is not None:
        state = TrialState.COMPLETE
    elif trial.losses:
        state = TrialState.PRUNED
    elif trial.ended:
        state = TrialState.FAIL
    return create_trial(
        state=state,
        value=trial.value,
        params={dimension.field: _said(dimension, trial.values[dimension.field]) for dimension in dimensions},
        distributions=distributions,
        intermediate_values={rung: sign * loss for rung, loss in enumerate(trial.losses)}
        if state is TrialState.PRUNED
        else {},
    )
