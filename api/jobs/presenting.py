"""Rows of jobs as answers."""

from __future__ import annotations

from collections.abc import Sequence

from api.jobs.schemas import JobDetail, JobInputs, JobResult, JobSummary
from api.jobs.waiting import why_waiting
from jobspecs.events import ProgressEvent, StateChange
from jobspecs.frozen import FrozenInputs, origin_of
from jobspecs.kinds.base import BASE_ROLE
from jobspecs.lifecycle import ACTIVE, REASONS, JobState
from jobspecs.manifest import Manifest
from jobspecs.problems import Problem
from storage.database import UnitOfWork
from storage.tables import DatasetVersionRow, JobRow, JobTransitionRow, ModelVersionRow


def summary(row: JobRow) -> JobSummary:
    return JobSummary(
        id=row.id,
        kind=row.kind,
        name=row.name,
        owner=row.owner.name,
        state=JobState(row.state),
        reason=row.reason,
        message=row.message,
        remedy=next((rule.remedy for reason, rule in REASONS.items() if reason == row.reason), None),
        priority=row.priority,
        boost=row.boost,
        attempts=row.fence,
        crash_count=row.crash_count,
        host_losses=row.host_losses,
        host=row.host,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def detail(work: UnitOfWork, row: JobRow) -> JobDetail:
    progress = work.events.newest(row.id, "progress") if row.fence else None
    event = progress.event if progress else None
    inputs = FrozenInputs.model_validate(row.inputs)
    checkpoints = work.checkpoints.newest_first(row.id)
    steps = work.jobs.transitions_after(row.id)
    return JobDetail(
        **dict(summary(row)),
        spec=row.spec,
        inputs=_inputs(inputs),
        estimate=inputs.estimate,
        slots=row.slots,
        memory_bytes=row.memory_bytes,
        gpus=row.gpus,
        progress=event if isinstance(event, ProgressEvent) else None,
        warnings=[Problem.model_validate(warning) for warning in row.warnings],
        result=_result(work, row) if row.state == JobState.succeeded else None,
        waiting_for=why_waiting(work, row),
        pipeline=inputs.pipeline,
        sweep=inputs.sweep,
        schedule=inputs.schedule,
        retry_of=row.retry_of,
        retried_as=list(work.jobs.retries_of(row.id)),
        checkpoint_step=checkpoints[0].step if checkpoints else None,
        avoided_hosts=row.avoided_hosts,
        run_s=_run_s(steps),
        transitions=[state_change(step) for step in steps],
    )


def _run_s(steps: Sequence[JobTransitionRow]) -> float:
    total_s, begun = 0.0, None
    for step in steps:
        if JobState(step.state) in ACTIVE:
            begun = begun or step.at
        elif begun is not None:
            total_s, begun = total_s + (step.at - begun).total_seconds(), None
    return total_s


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
    models = {role: origin_of(model).reference for role, model in frozen.by_role().items()}
    return JobInputs(
        dataset=frozen.dataset.reference if frozen.dataset else None,
        held_out=frozen.held_out.reference if frozen.held_out else None,
        test=frozen.test.reference if frozen.test else None,
        model=models.pop(BASE_ROLE, None),
        models=models,
    )


def _result(work: UnitOfWork, row: JobRow) -> JobResult | None:
    if (model := work.models.of_job(row.id)) is not None:
        return _model_result(model)
    dataset = work.datasets.of_job(row.id)
    return _dataset_result(dataset) if dataset is not None else None


def _model_result(row: ModelVersionRow) -> JobResult:
    manifest = Manifest.model_validate(row.manifest)
    owner, name = row.model.owner.name, row.model.name
    return JobResult(
        type="model",
        model=f"{owner}/{name}@{row.version}",
        dataset=None,
        owner=owner,
        name=name,
        version=row.version,
        digest=row.digest,
        bytes=row.bytes,
        metrics=manifest.metrics,
        report=manifest.report,
    )


def _dataset_result(row: DatasetVersionRow) -> JobResult:
    manifest = Manifest.model_validate(row.manifest)
    owner, name = row.dataset.owner.name, row.dataset.name
    return JobResult(
        type="dataset",
        model=None,
        dataset=f"{owner}/{name}@{row.version}",
        owner=owner,
        name=name,
        version=row.version,
        digest=row.sha256,
        bytes=row.bytes,
        metrics=manifest.metrics,
        report=manifest.report,
    )
