"""Rows of pipelines as answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from api.pipelines.schemas import PipelineDetail, PipelineStepDetail, PipelineSummary, StepResult
from jobspecs.events import ProgressEvent
from jobspecs.lifecycle import JobState
from jobspecs.pipelines.frozen import StepInputs, StepOutput
from jobspecs.pipelines.lifecycle import PipelineState, StepReason, StepState
from jobspecs.problems import Problem
from storage.database import UnitOfWork
from storage.tables import JobRow, PipelineRow, PipelineStepRow


def summary(row: PipelineRow, states: Sequence[str]) -> PipelineSummary:
    """`states`: those of its steps."""
    return PipelineSummary(
        id=row.id,
        name=row.name,
        owner=row.owner.name,
        state=PipelineState(row.state),
        message=row.message,
        step_states={StepState(state): count for state, count in Counter(states).items()},
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def detail(work: UnitOfWork, row: PipelineRow) -> PipelineDetail:
    # First: what happens while the rest is read is told twice then, and never not at all.
    cursor = str(work.pipelines.newest_event(row.id))
    steps = work.pipelines.steps(row.id)
    jobs = work.pipelines.jobs_of(steps)
    told = [_step(work, step, jobs.get(step.job_id) if step.job_id is not None else None) for step in steps]
    return PipelineDetail(
        **dict(summary(row, [step.state for step in steps])), document=row.document, steps=told, cursor=cursor
    )


def progress_of(work: UnitOfWork, job: JobRow | None) -> ProgressEvent | None:
    """How far the job is; None before it has said so."""
    newest = work.events.newest(job.id, "progress") if job is not None and job.fence else None
    return newest.event if newest is not None and isinstance(newest.event, ProgressEvent) else None


def _step(work: UnitOfWork, row: PipelineStepRow, job: JobRow | None) -> PipelineStepDetail:
    made = StepOutput.model_validate(row.output) if row.output is not None else None
    return PipelineStepDetail(
        name=row.name,
        kind=row.kind,
        state=StepState(row.state),
        reason=StepReason(row.reason) if row.reason is not None else None,
        message=row.message,
        needs=row.needs,
        condition=row.condition,
        figures=row.figures,
        spec=row.spec,
        warnings=[Problem.model_validate(warning) for warning in row.warnings],
        estimate=StepInputs.model_validate(row.inputs).frozen.estimate,
        job_id=row.job_id,
        job_state=JobState(job.state) if job is not None else None,
        progress=progress_of(work, job) if row.state == StepState.running else None,
        deployment=row.spec.get("name") if row.kind == "deploy" else None,
        result=StepResult.model_validate(made.model_dump(exclude={"version_id"})) if made is not None else None,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
