"""Submitting, reading and cancelling sweeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from api.errors import ApiError, not_found
from api.jobs.service import check_same, sha256_of
from api.parts import Parts
from api.sweeps.curve import svg
from api.sweeps.preparing import Prepared, prepare
from api.sweeps.presenting import detail, summary
from api.sweeps.schemas import SweepDetail, SweepForecast, SweepList
from jobspecs.estimate import Duration
from jobspecs.problems import InvalidInput, Problem
from jobspecs.rights import Principal, Reach
from jobspecs.sweeps.meaning import Sweep
from jobspecs.sweeps.reading import parse_sweep
from storage.database import UnitOfWork
from storage.tables import SweepRow

#: Trials whose values a forecast tells.
_TOLD_MAX = 20


def submit(
    parts: Parts, user: Principal, document: dict[str, Any], key: str | None, gone: Callable[[], bool]
) -> tuple[SweepDetail, bool]:
    """Stores the sweep and commits it. With a known idempotency key: the earlier one, and False.

    Raises InvalidInput with everything that is wrong with it, and nothing is queued; ApiError 409 when the key was used
    for another sweep.
    """
    sweep = parse_sweep(document)
    owner_id, request_sha256 = user.reach("jobs.submit").maker, sha256_of(document)
    if key is not None:
        with parts.database.unit_of_work() as work:
            earlier = work.sweeps.find_by_key(owner_id, key)
            if earlier is not None:
                check_same(earlier.request_sha256, request_sha256)
                return detail(work, earlier), False
    prepared = prepare(parts, user, sweep, gone)
    with parts.database.unit_of_work() as work:
        if not all(work.removal.hold(variant.inputs) for variant in prepared.plan.variants):
            message = "a model or data set that it names was deleted meanwhile."
            raise InvalidInput([Problem(field="spec", message=message, remedy="Name another version.")])
        row, created = work.sweeps.submit(
            owner_id, sweep.name, document, prepared.plan, request_sha256=request_sha256, idempotency_key=key
        )
        check_same(row.request_sha256, request_sha256)
        return detail(work, row), created


def check(parts: Parts, user: Principal, document: dict[str, Any], gone: Callable[[], bool]) -> SweepForecast:
    """What the sweep would take; nothing is queued. Raises InvalidInput as `submit` does."""
    sweep = parse_sweep(document)
    prepared = prepare(parts, user, sweep, gone)
    first = [sweep.point(number) for number in range(1, min(sweep.trials, _TOLD_MAX) + 1)]
    work, duration = _durations(sweep, prepared)
    warnings = {str(warning): warning for variant in prepared.plan.variants for warning in variant.warnings}
    return SweepForecast(
        name=sweep.name,
        trials=sweep.trials,
        metrics=list(sweep.figures),
        goal=sweep.goal,
        first=[values for values in first if values is not None],
        memory_bytes=max(variant.memory_bytes for variant in prepared.plan.variants),
        trial=prepared.trial,
        work=work,
        duration=duration,
        warnings=list(warnings.values()),
    )


def _durations(sweep: Sweep, prepared: Prepared) -> tuple[Duration, Duration]:
    """Of all jobs together, and from begin to end where each has a place as soon as it is ready.

    With halving a trial may stop at once: all but one of each `factor` count for nothing at the least.
    """
    trial, last = prepared.trial, 1 if sweep.confirms else 0
    least = -(-sweep.trials // sweep.factor)
    rounds, rounds_least = (-(-count // sweep.document.at_once) for count in (sweep.trials, least))
    limit_s = sweep.max_time_s or float("inf")
    together = Duration(
        low_s=trial.low_s * (least + last), high_s=trial.high_s * (sweep.trials + last), basis=trial.basis
    )
    longest = Duration(
        low_s=min(trial.low_s * rounds_least, limit_s) + trial.low_s * last,
        high_s=min(trial.high_s * rounds, limit_s) + trial.high_s * last,
        basis=trial.basis,
    )
    return together, longest


def list_sweeps(parts: Parts, user: Principal, *, everybody: bool, before: int | None, limit: int) -> SweepList:
    reach = user.reach("jobs.read")
    with parts.database.unit_of_work() as work:
        rows = work.sweeps.list(reach if everybody else reach.own, before=before, limit=limit + 1)
        page = rows[:limit]
        states = work.sweeps.states_of([row.id for row in page])
        data = [summary(row, states[row.id]) for row in page]
    has_more = len(rows) > limit
    return SweepList(data=data, has_more=has_more, next_before=page[-1].submitted_order if has_more else None)


def get(parts: Parts, user: Principal, sweep_id: UUID) -> SweepDetail:
    with parts.database.unit_of_work() as work:
        return detail(work, found(work, user.reach("jobs.read"), sweep_id))


def picture(parts: Parts, user: Principal, sweep_id: UUID) -> str:
    sweep = get(parts, user, sweep_id)
    return svg(sweep.name, sweep.metrics[0], sweep.goal, sweep.trials, sweep.winner)


def cancel(parts: Parts, user: Principal, sweep_id: UUID) -> SweepDetail:
    """Nothing of it begins any more, and what runs is asked to end; it is `cancelling` until all has."""
    with parts.database.unit_of_work() as work:
        found(work, user.reach("jobs.cancel"), sweep_id)
        if not work.sweeps.request_cancel(sweep_id):
            raise ApiError(409, "The sweep has ended already; there is nothing to cancel.", code="sweep_ended")
        return detail(work, found(work, user.reach("jobs.cancel"), sweep_id))


def found(work: UnitOfWork, reach: Reach, sweep_id: UUID) -> SweepRow:
    """Raises ApiError 404: what is out of reach does not exist."""
    row = work.sweeps.find(reach, sweep_id)
    if row is None:
        raise not_found(f"sweep {sweep_id}")
    return row
