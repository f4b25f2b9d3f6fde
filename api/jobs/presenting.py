"""Rows of jobs as answers."""

from __future__ import annotations

from api.jobs.schemas import JobDetail, JobInputs, JobResult, JobSummary
from jobspecs.events import ProgressEvent, StateChange
from jobspecs.frozen import FrozenHubModel, FrozenInputs
from jobspecs.lifecycle import REASONS, JobState, Reason
from jobspecs.manifest import Manifest
from storage.database import UnitOfWork
from storage.tables import JobRow, JobTransitionRow, ModelVersionRow


def summary(row: JobRow) -> JobSummary:
    return JobSummary(
        id=row.id,
        kind=row.kind,
        name=row.name,
        owner=row.owner.name,
        state=JobState(row.state),
        reason=row.reason,
        message=row.message,
        remedy=REASONS[Reason(row.reason)].remedy if row.reason else None,
        priority=row.priority,
        attempts=row.fence,
        crash_count=row.crash_count,
        host=row.host,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def detail(work: UnitOfWork, row: JobRow) -> JobDetail:
    progress = work.events.newest(row.id, "progress") if row.fence else None
    version = work.models.of_job(row.id) if row.state == JobState.succeeded else None
    event = progress.event if progress else None
    return JobDetail(
        **dict(summary(row)),
        spec=row.spec,
        inputs=_inputs(FrozenInputs.model_validate(row.inputs)),
        slots=row.slots,
        memory_bytes=row.memory_bytes,
        gpus=row.gpus,
        progress=event if isinstance(event, ProgressEvent) else None,
        result=_result(version) if version else None,
        transitions=[state_change(step) for step in work.jobs.transitions_after(row.id)],
    )


def state_change(row: JobTransitionRow) -> StateChange:
    return StateChange(
        seq=row.seq,
        at=row.at,
        source=row.source,
        state=row.state,
        reason=row.reason,
        message=row.message,
        fence=row.fence,
        actor=row.actor,
    )


def _inputs(frozen: FrozenInputs) -> JobInputs:
    dataset, model = frozen.dataset, frozen.model
    if isinstance(model, FrozenHubModel):
        name = f"hub:{model.repository}@{model.revision}"
    else:
        name = f"{model.owner}/{model.name}@{model.version}"
    return JobInputs(dataset=f"{dataset.owner}/{dataset.name}@{dataset.version}", model=name)


def _result(row: ModelVersionRow) -> JobResult:
    manifest = Manifest.model_validate(row.manifest)
    owner, name = row.model.owner.name, row.model.name
    return JobResult(
        model=f"{owner}/{name}@{row.version}",
        owner=owner,
        name=name,
        version=row.version,
        digest=row.digest,
        bytes=row.bytes,
        metrics=manifest.metrics,
        report=manifest.report,
    )
