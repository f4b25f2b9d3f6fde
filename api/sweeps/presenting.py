"""Rows of sweeps as answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from api.sweeps.schemas import SweepDetail, SweepSummary, Trial
from jobspecs.events import ProgressEvent
from jobspecs.lifecycle import JobState
from jobspecs.pipelines.frozen import StepOutput
from jobspecs.sweeps.lifecycle import CONFIRMATION, SweepState, TrialReason, TrialState
from jobspecs.sweeps.meaning import Sweep, read_sweep
from storage.database import UnitOfWork
from storage.tables import JobRow, SweepRow, SweepTrialRow


def summary(row: SweepRow, states: Sequence[str], sweep: Sweep | None = None) -> SweepSummary:
    """`states`: those of its trials."""
    return SweepSummary(
        id=row.id,
        name=row.name,
        owner=row.owner.name,
        state=SweepState(row.state),
        message=row.message,
        trials_total=(sweep or read_sweep(row.document)).trials,
        trial_states={TrialState(state): count for state, count in Counter(states).items()},
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def detail(work: UnitOfWork, row: SweepRow) -> SweepDetail:
    sweep, rows = read_sweep(row.document), work.sweeps.trials(row.id)
    jobs = work.sweeps.jobs_of(rows)
    told = {one.number: _trial(work, one, jobs.get(one.job_id) if one.job_id is not None else None) for one in rows}
    confirmation = told.pop(CONFIRMATION, None)
    return SweepDetail(
        **dict(summary(row, [one.state for one in told.values()], sweep)),
        document=row.document,
        metrics=list(sweep.figures),
        goal=sweep.goal,
        rungs=list(sweep.rungs),
        trials=ranked(list(told.values()), -1 if sweep.goal == "max" else 1),
        winner=row.winner,
        confirmation=confirmation,
    )


def ranked(trials: Sequence[Trial], sign: int) -> list[Trial]:
    """`sign`: 1 where less is better, else -1."""

    def place(trial: Trial) -> tuple[int, float, float, int]:
        if trial.value is not None:
            return 0, sign * trial.value, 0.0, trial.number
        if trial.rungs:
            return 1, -len(trial.rungs), trial.rungs[-1], trial.number
        return 2, 0.0, 0.0, trial.number

    return sorted(trials, key=place)


def _trial(work: UnitOfWork, row: SweepTrialRow, job: JobRow | None) -> Trial:
    progress = None
    if job is not None and row.state == TrialState.running and job.fence:
        newest = work.events.newest(job.id, "progress")
        progress = newest.event if newest is not None and isinstance(newest.event, ProgressEvent) else None
    made = StepOutput.model_validate(row.output) if row.output is not None else None
    return Trial(
        number=row.number,
        values=row.values,
        state=TrialState(row.state),
        reason=TrialReason(row.reason) if row.reason is not None else None,
        message=row.message,
        value=row.value,
        low=row.low,
        high=row.high,
        rungs=row.rungs,
        steps=row.steps,
        job_id=row.job_id,
        job_state=JobState(job.state) if job is not None else None,
        progress=progress,
        result=made.reference if made is not None else None,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
