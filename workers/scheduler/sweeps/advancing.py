"""Takes every sweep of which something may be decided as far as it goes.

Each decision is one transaction that holds the sweep's lock: of two schedulers one decides. A trial, its job and the
message in the outbox are committed together, so a scheduler that dies leaves a trial begun once or not at all.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from uuid import UUID

from jobspecs.sweeps.lifecycle import SweepState, TrialReason, TrialState
from jobspecs.sweeps.meaning import Sweep, read_sweep
from scheduling.sweeps import Action, Begin, Cancel, End, GoOn, Outcome, Reach, Settle, Stop, decide
from storage.database import Database, DatabaseUnavailable, UnitOfWork
from storage.tables import JobRow, SweepRow, SweepTrialRow
from workers.scheduler.sweeps.beginning import begin
from workers.scheduler.sweeps.known import Found, Known, look_at

log = logging.getLogger(__name__)

#: Sweeps of one look at most, and seconds: the leader must show that it lives, and jobs of others wait for a place.
SWEEPS_MAX, SECONDS_MAX = 20, 2.0
#: Trials that can't begin let others begin. More looks than a sweep can have trials are a defect.
_LOOKS_MAX = 1100
#: Seconds between two looks at trials that stop at rungs: they report at most once a second.
_LOOK_EVERY_S = 1.0


def advance_all(database: Database, sweep_ids: Sequence[UUID], *, seconds_max: float = math.inf) -> None:
    """What is wrong with one sweep is logged and keeps no other from going on; it is looked at again.

    One decision is done at least; what is left after so many seconds stays due.
    """
    until = time.monotonic() + seconds_max
    for sweep_id in sweep_ids:
        try:
            advance(database, sweep_id, until)
        except DatabaseUnavailable:
            raise
        except Exception:
            log.exception("sweep %s can't go on; it is tried again", sweep_id)
        if time.monotonic() >= until:
            return


def advance(database: Database, sweep_id: UUID, until: float = math.inf) -> None:
    """Decides until nothing is left to do. Does nothing where another scheduler has it, or when it has ended."""
    for _ in range(_LOOKS_MAX):
        if not _look(database, sweep_id) or time.monotonic() >= until:
            return


def _look(database: Database, sweep_id: UUID) -> bool:
    """One decision, done and committed. Whether there may be another one."""
    with database.unit_of_work() as work:
        row = work.sweeps.lock(sweep_id)
        if row is None:
            return False
        sweep = read_sweep(row.document)
        known = look_at(work, row, sweep)
        actions = decide(known.snapshot)
        for action in actions:
            _do(work, row, sweep, known, action)
        if actions and isinstance(actions[-1], End):
            log.info("sweep %s (%s) has ended: %s", row.id, row.name, actions[-1].state)
            return False
        # Should this scheduler die now, the next one goes on.
        goes_on = any(isinstance(action, Begin | GoOn | Stop | Settle) for action in actions)
        work.sweeps.note(sweep_id, due=goes_on, look_in_s=_look_in_s(work, row, sweep))
        return goes_on


def _look_in_s(work: UnitOfWork, row: SweepRow, sweep: Sweep) -> float | None:
    """Seconds until it is looked at though nothing has happened; None: never."""
    if row.state == SweepState.cancelling:
        return None
    waits = [_LOOK_EVERY_S] if sweep.rungs else []
    if sweep.max_time_s is not None and (left_s := sweep.max_time_s - work.sweeps.age_s(row)) > 0:
        waits.append(left_s)
    return min(waits, default=None)


def _do(work: UnitOfWork, row: SweepRow, sweep: Sweep, known: Known, action: Action) -> None:
    if isinstance(action, End):
        _end(work, row, action)
    elif isinstance(action, Begin):
        begin(work, row, sweep, known.rows, action)
    else:
        _change(work, row, known.rows[action.number], known.found.get(action.number, Found()), action)


def _end(work: UnitOfWork, row: SweepRow, action: End) -> None:
    for trial in work.sweeps.trials(row.id):
        if trial.state == TrialState.stopped and trial.job_id is not None:
            # What stands still at a rung would keep its checkpoint for ever.
            work.jobs.request_cancel(trial.job_id, actor=_actor(row))
    work.sweeps.end(row.id, action.state, action.winner, action.message)


def _change(
    work: UnitOfWork, row: SweepRow, trial: SweepTrialRow, found: Found, action: Reach | Stop | GoOn | Settle | Cancel
) -> None:
    steps = max(trial.steps, found.steps)
    if isinstance(action, Reach):
        work.sweeps.reached(trial, action.loss)
    elif isinstance(action, Settle):
        _settle(work, trial, found, action.outcome, steps)
    elif isinstance(action, Cancel):
        _ask(work.jobs.request_cancel, row, trial)
    elif isinstance(action, GoOn):
        _ask(work.jobs.resume, row, trial)
        work.sweeps.move(trial, TrialState.running, steps=steps)
    else:
        pauses = action.reason is TrialReason.behind
        _ask(work.jobs.request_pause if pauses else work.jobs.request_cancel, row, trial)
        work.sweeps.move(trial, TrialState.stopped, reason=action.reason, steps=steps)


def _settle(work: UnitOfWork, trial: SweepTrialRow, found: Found, outcome: Outcome, steps: int) -> None:
    value, low, high = found.measured or (None, None, None)
    output = found.output.model_dump(mode="json") if found.output is not None else None
    told = {"steps": steps, "value": value, "low": low, "high": high, "output": output}
    work.sweeps.move(trial, outcome.state, reason=outcome.reason, message=outcome.message, **told)


def _ask(order: Callable[..., JobRow | None], row: SweepRow, trial: SweepTrialRow) -> None:
    """Of the trial's job. One that has ended meanwhile is looked at next time."""
    if trial.job_id is not None:
        order(trial.job_id, actor=_actor(row))


def _actor(row: SweepRow) -> str:
    return f"sweep:{row.name}"
