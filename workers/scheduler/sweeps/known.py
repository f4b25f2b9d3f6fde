"""What is known of a sweep: its trials as `scheduling.sweeps` wants them, and what their jobs made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jobspecs.events import MetricEvent, ProgressEvent
from jobspecs.lifecycle import JobState
from jobspecs.pipelines.frozen import StepOutput
from jobspecs.sweeps.lifecycle import CONFIRMATION, SETTLED, SweepState, TrialReason, TrialState
from jobspecs.sweeps.meaning import Sweep
from scheduling.sweeps import Outcome, Snapshot, Trial
from storage.database import UnitOfWork
from storage.tables import JobRow, SweepRow, SweepTrialRow
from workers.scheduler.pipelines.outputs import output_of

#: What a job says of rows held out while it trains; less is better.
_LIVE = ("aside/loss", "validation/loss")
#: Metrics of one job that are read: a look every 25 steps makes so many in 25,000.
_METRICS_MAX = 1000
_ENDED_BADLY = {
    JobState.failed: (TrialState.failed, TrialReason.job_failed),
    JobState.cancelled: (TrialState.cancelled, TrialReason.job_cancelled),
}


@dataclass(frozen=True)
class Found:
    """What a trial is known to have done: steps taken, and of a success its figure and what it made."""

    steps: int = 0
    looks: tuple[tuple[int, float], ...] = ()
    outcome: Outcome | None = None
    measured: tuple[float, float | None, float | None] | None = None
    output: StepOutput | None = None


@dataclass(frozen=True)
class Known:
    """`rows`: number -> trial; `found`: of those whose job has not ended before."""

    snapshot: Snapshot
    rows: Mapping[int, SweepTrialRow]
    found: Mapping[int, Found] = field(default_factory=dict)


def look_at(work: UnitOfWork, row: SweepRow, sweep: Sweep) -> Known:
    """Reads all that a decision may depend on."""
    rows = work.sweeps.trials(row.id)
    open_ones = [trial for trial in rows if TrialState(trial.state) not in SETTLED]
    jobs = work.sweeps.jobs_of(open_ones)
    found = {
        trial.number: _found(work, sweep, trial, jobs.get(trial.job_id) if trial.job_id is not None else None)
        for trial in open_ones
    }
    out_of_time = sweep.max_time_s is not None and work.sweeps.age_s(row) >= sweep.max_time_s
    snapshot = Snapshot(
        trials=[_trial(trial, found.get(trial.number)) for trial in rows],
        total=sweep.trials,
        at_once=sweep.document.at_once,
        goal=sweep.goal,
        rungs=sweep.rungs,
        factor=sweep.factor,
        confirms=sweep.confirms,
        cancelling=row.state == SweepState.cancelling,
        out_of_time=out_of_time,
        winner=row.winner,
    )
    return Known(snapshot, {trial.number: trial for trial in rows}, found)


def _trial(row: SweepTrialRow, found: Found | None) -> Trial:
    reason = TrialReason(row.reason) if row.reason is not None else None
    state = TrialState(row.state)
    return Trial(
        number=row.number,
        state=state,
        reason=reason,
        rungs=tuple(row.rungs),
        looks=found.looks if found is not None else (),
        value=row.value,
        outcome=found.outcome if found is not None else Outcome(state, reason, row.message, row.value),
    )


def _found(work: UnitOfWork, sweep: Sweep, trial: SweepTrialRow, job: JobRow | None) -> Found:
    if job is None:
        return Found(outcome=Outcome(TrialState.failed, TrialReason.job_deleted, "Its job was deleted."))
    state, searches = JobState(job.state), trial.number != CONFIRMATION
    looks = _looks(work, job) if searches and sweep.rungs and job.fence else ()
    steps = _steps(work, job) if job.fence else 0
    if state in _ENDED_BADLY:
        target, reason = _ENDED_BADLY[state]
        told = ": ".join(part for part in (job.reason, job.message) if part)
        return Found(steps, looks, Outcome(target, reason, told or None))
    if state is not JobState.succeeded:
        return Found(steps, looks)
    output = output_of(work, job.id)
    if output is None:
        return Found(steps, looks, Outcome(TrialState.failed, TrialReason.job_deleted, "What it made was deleted."))
    measured = sweep.figure(output.metrics)
    if measured is None:
        told = f"It measured no {' or '.join(sweep.figures)}: it has {', '.join(sorted(output.metrics)) or 'none'}."
        return Found(steps, looks, Outcome(TrialState.failed, TrialReason.not_measured, told), output=output)
    return Found(steps, looks, Outcome(TrialState.succeeded, value=measured[0]), measured, output)


def _looks(work: UnitOfWork, job: JobRow) -> tuple[tuple[int, float], ...]:
    """(step, loss) in the order of steps; an attempt that went on from a checkpoint may have repeated some."""
    events = (one.event for one in work.events.after(job.id, limit=_METRICS_MAX, kinds=("metric",)))
    return tuple(
        sorted(
            {
                event.step: event.value
                for event in events
                if isinstance(event, MetricEvent) and event.name in _LIVE and event.step is not None
            }.items()
        )
    )


def _steps(work: UnitOfWork, job: JobRow) -> int:
    """The last training step that the job told of."""
    told = (work.events.newest(job.id, kind) for kind in ("metric", "checkpoint", "progress"))
    steps = []
    for event in (one.event for one in told if one is not None):
        if isinstance(event, ProgressEvent) and event.stage != "train":
            continue
        steps.append(getattr(event, "step", None) or 0)
    return max(steps, default=0)
