"""What is found out about a sweep before any trial is queued.

The data are read, and memory and time estimated, for a few trials of each choice of models and data sets: the first,
the one with the largest numbers, and one of each other value. Every trial is given the room of the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from api.jobs.inspecting import Asking
from api.jobs.preparing import check_room, frozen_inputs, inspected, memory_bytes_of, problems_by_profile
from api.parts import Parts
from jobspecs.estimate import Duration, Estimate
from jobspecs.problems import PROBLEMS_MAX, InvalidInput, Problem
from jobspecs.registry import JobSpec
from jobspecs.rights import Principal
from jobspecs.sweeps.document import Range
from jobspecs.sweeps.frozen import SweepPlan, Variant, references_of
from jobspecs.sweeps.lifecycle import CONFIRMATION
from jobspecs.sweeps.meaning import Sweep
from jobspecs.sweeps.space import Dimension, Values

#: Choices of models and data sets, and trials of each that are looked at.
VARIANTS_MAX, _LOOKED_AT_MAX = 20, 12


@dataclass(frozen=True)
class Prepared:
    """`estimates`: of the trials that were looked at, the largest in memory first."""

    plan: SweepPlan
    estimates: Sequence[Estimate]

    @property
    def trial(self) -> Duration:
        """Seconds of one trial, from the least to the most that one of those looked at may take."""
        known = [one.duration for one in self.estimates]
        measured = all(one.basis == "measured" for one in known)
        basis: Literal["measured", "assumed"] = "measured" if measured else "assumed"
        return Duration(low_s=min(one.low_s for one in known), high_s=max(one.high_s for one in known), basis=basis)


def prepare(parts: Parts, user: Principal, sweep: Sweep, gone: Callable[[], bool]) -> Prepared:
    """Raises InvalidInput with what is wrong. No transaction is open while data and models are looked at."""
    first = {dimension.field: dimension.ends[0] for dimension in sweep.dimensions}
    naming = [dimension for dimension in sweep.dimensions if _names_inputs(sweep, first, dimension)]
    choices = [dict(zip([one.field for one in naming], chosen, strict=True)) for chosen in _product(naming)]
    if len(choices) > VARIANTS_MAX:
        message = f"it names {len(choices)} combinations of models and data sets; at most {VARIANTS_MAX} are allowed."
        raise InvalidInput([Problem(field="over", message=message, remedy="Name fewer of them.")])
    variants, estimates = list[Variant](), list[Estimate]()
    for chosen in choices:
        variant, found = _variant(parts, user, sweep, {**first, **chosen}, naming, gone)
        variants.append(variant)
        estimates += found
    estimates.sort(key=lambda one: -one.main_memory.total)
    return Prepared(SweepPlan(variants=tuple(variants)), estimates)


def _variant(
    parts: Parts, user: Principal, sweep: Sweep, base: Values, naming: Sequence[Dimension], gone: Callable[[], bool]
) -> tuple[Variant, list[Estimate]]:
    # The winner's spec names all that is read, the rows that confirm it among them.
    confirming = sweep.spec_of(base, CONFIRMATION)
    try:
        frozen = frozen_inputs(parts, user, confirming)
        estimates, warnings, checked = list[Estimate](), dict[str, Problem](), True
        memory_bytes = gpus = 0
        # A search is in vain whose winner can't be confirmed: that is looked at too.
        for spec in (*_looked_at(sweep, base, naming), *([confirming] if sweep.confirms else [])):
            if problems := problems_by_profile(spec, frozen):
                raise InvalidInput(problems)
            found = inspected(parts, Asking(user.user_id, gone), spec, frozen)
            if found.report is not None:
                if found.report.problems:
                    raise InvalidInput(found.report.problems)
                warnings |= {str(warning): warning for warning in found.report.warnings}
            estimates.append(found.estimate)
            memory_bytes = max(memory_bytes, memory_bytes_of(spec, found.estimate))
            gpus = max(gpus, spec.resources.gpus)
            checked = checked and found.checked
        with parts.database.unit_of_work() as work:
            check_room(work, memory_bytes, gpus)
    except InvalidInput as error:
        raise InvalidInput([located(sweep, problem) for problem in error.problems][:PROBLEMS_MAX]) from error
    # What some trial reads otherwise than those that were looked at is found by its own first stage.
    same = all(dimension in naming or dimension.field.startswith("training.") for dimension in sweep.dimensions)
    told = {"checked": checked and same, "estimate": estimates[0]}
    inputs = frozen.inputs.model_copy(update=told)
    variant = Variant(
        references=references_of(confirming),
        inputs=inputs,
        memory_bytes=memory_bytes,
        warnings=tuple(located(sweep, warning) for warning in warnings.values())[:PROBLEMS_MAX],
    )
    return variant, estimates


def _looked_at(sweep: Sweep, base: Values, naming: Sequence[Dimension]) -> Iterator[JobSpec]:
    """Trials that tell what all need: each is looked at once."""
    others = [dimension for dimension in sweep.dimensions if dimension not in naming]
    largest: dict[str, Any] = {**base, **{dimension.field: dimension.largest for dimension in others}}
    wanted = [base, largest]
    for dimension in others:
        if not isinstance(dimension.domain, Range) and dimension.largest is dimension.ends[0]:
            wanted += [{**largest, dimension.field: value} for value in dimension.ends[1:]]
    known: list[JobSpec] = []
    for values in wanted:
        try:
            spec = sweep.spec_of(values, 1)
        except InvalidInput:
            # No trial of a grid: the largest values need not go together.
            continue
        if spec not in known and len(known) < _LOOKED_AT_MAX:
            known.append(spec)
            yield spec


def _names_inputs(sweep: Sweep, first: Values, dimension: Dimension) -> bool:
    """Whether its values are different models or data sets."""
    if isinstance(dimension.domain, Range):
        return False
    named = references_of(sweep.spec_of(first, CONFIRMATION))
    return any(
        references_of(sweep.spec_of({**first, dimension.field: value}, CONFIRMATION)) != named
        for value in dimension.domain[1:]
    )


def _product(dimensions: Sequence[Dimension]) -> Iterator[tuple[Any, ...]]:
    """Not more than are needed to say that they are too many."""
    chosen = product(*(dimension.ends for dimension in dimensions))
    for _, values in zip(range(VARIANTS_MAX + 1), chosen, strict=False):
        yield values


def located(sweep: Sweep, problem: Problem) -> Problem:
    """The problem with its field in the sweep's document."""
    if problem.field is None:
        return problem
    if problem.field.startswith("test") and sweep.document.spec.get("test") is None:
        return problem.model_copy(update={"field": "confirm"})
    searched = next((one.field for one in sweep.dimensions if problem.field.startswith(one.field)), None)
    return problem.model_copy(update={"field": f"over.{searched}" if searched else f"spec.{problem.field}"})
