"""Submitting, reading, cancelling and retrying pipelines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from api.errors import ApiError, not_found
from api.jobs.service import check_same, sha256_of
from api.parts import Parts
from api.pipelines.expecting import durations
from api.pipelines.graph import svg
from api.pipelines.preparing import prepare
from api.pipelines.presenting import detail, summary
from api.pipelines.schemas import DeletedPipeline, PipelineDetail, PipelineForecast, PipelineList, StepForecast
from jobspecs.pipelines.reading import parse_pipeline
from jobspecs.problems import InvalidInput, Problem
from jobspecs.rights import Principal, Reach
from storage.database import UnitOfWork
from storage.repositories.jobs.pipelines import NewStep
from storage.tables import PipelineRow


def submit(
    parts: Parts, user: Principal, document: dict[str, Any], key: str | None, gone: Callable[[], bool]
) -> tuple[PipelineDetail, bool]:
    """Stores the pipeline and commits it. With a known idempotency key: the earlier one, and False.

    Raises InvalidInput with everything that is wrong with it, and nothing is queued; ApiError 409 when the key was used
    for another pipeline.
    """
    pipeline = parse_pipeline(document)
    owner_id, request_sha256 = user.reach("jobs.submit").maker, sha256_of(document)
    if key is not None:
        with parts.database.unit_of_work() as work:
            earlier = work.pipelines.find_by_key(owner_id, key)
            if earlier is not None:
                check_same(earlier.request_sha256, request_sha256)
                return detail(work, earlier), False
    steps = prepare(parts, user, pipeline, gone)
    with parts.database.unit_of_work() as work:
        _hold(work, steps)
        row, created = work.pipelines.submit(
            owner_id, pipeline.name, document, steps, request_sha256=request_sha256, idempotency_key=key
        )
        check_same(row.request_sha256, request_sha256)
        return detail(work, row), created


def check(parts: Parts, user: Principal, document: dict[str, Any], gone: Callable[[], bool]) -> PipelineForecast:
    """What the pipeline would take; nothing is queued. Raises InvalidInput as `submit` does."""
    pipeline = parse_pipeline(document)
    steps = prepare(parts, user, pipeline, gone)
    longest, together = durations(pipeline, {step.name: step for step in steps})
    return PipelineForecast(
        name=pipeline.name,
        steps=[
            StepForecast(
                name=step.name,
                kind=step.kind,
                needs=list(step.needs),
                estimate=step.inputs.frozen.estimate,
                memory_bytes=step.memory_bytes,
                warnings=[Problem.model_validate(warning) for warning in step.warnings],
            )
            for step in steps
        ],
        duration=longest,
        work=together,
    )


def list_pipelines(parts: Parts, user: Principal, *, everybody: bool, before: int | None, limit: int) -> PipelineList:
    reach = user.reach("jobs.read")
    with parts.database.unit_of_work() as work:
        rows = work.pipelines.list(reach if everybody else reach.own, before=before, limit=limit + 1)
        page = rows[:limit]
        states = work.pipelines.states_of([row.id for row in page])
        data = [summary(row, states[row.id]) for row in page]
    has_more = len(rows) > limit
    return PipelineList(data=data, has_more=has_more, next_before=page[-1].submitted_order if has_more else None)


def get(parts: Parts, user: Principal, pipeline_id: UUID) -> PipelineDetail:
    with parts.database.unit_of_work() as work:
        return detail(work, found(work, user.reach("jobs.read"), pipeline_id))


def picture(parts: Parts, user: Principal, pipeline_id: UUID) -> str:
    with parts.database.unit_of_work() as work:
        row = found(work, user.reach("jobs.read"), pipeline_id)
        return svg(row.name, work.pipelines.steps(pipeline_id))


def cancel(parts: Parts, user: Principal, pipeline_id: UUID) -> PipelineDetail:
    """Nothing of it begins any more, and what runs is asked to end; it is `cancelling` until all has."""
    with parts.database.unit_of_work() as work:
        found(work, user.reach("jobs.cancel"), pipeline_id)
        if not work.pipelines.request_cancel(pipeline_id):
            raise ApiError(409, "The pipeline has ended already; there is nothing to cancel.", code="pipeline_ended")
        return detail(work, found(work, user.reach("jobs.cancel"), pipeline_id))


def retry(parts: Parts, user: Principal, pipeline_id: UUID) -> PipelineDetail:
    """What did not succeed begins again, a failed job from its checkpoint; what succeeded stays."""
    with parts.database.unit_of_work() as work:
        row = found(work, user.reach("jobs.retry"), pipeline_id)
        if not work.pipelines.retry(pipeline_id):
            told = "has succeeded. Submit it again to do it once more" if row.state == "succeeded" else "has not ended"
            raise ApiError(409, f"The pipeline {told}.", code=f"pipeline_{row.state}")
        return detail(work, found(work, user.reach("jobs.retry"), pipeline_id))


def delete(parts: Parts, user: Principal, pipeline_id: UUID) -> DeletedPipeline:
    """With its steps and history; its jobs and what they made stay."""
    with parts.database.unit_of_work() as work:
        row = found(work, user.reach("jobs.delete"), pipeline_id, lock=True)
        if row.finished_at is None:
            message = f"The pipeline goes on. Cancel it first: eigenwerk pipelines cancel {pipeline_id}"
            raise ApiError(409, message, code="pipeline_not_ended")
        work.pipelines.delete(row)
        return DeletedPipeline(id=row.id, name=row.name)


def found(work: UnitOfWork, reach: Reach, pipeline_id: UUID, *, lock: bool = False) -> PipelineRow:
    """Raises ApiError 404: what is out of reach does not exist."""
    row = work.pipelines.find(reach, pipeline_id, lock=lock)
    if row is None:
        raise not_found(f"pipeline {pipeline_id}")
    return row


def _hold(work: UnitOfWork, steps: Sequence[NewStep]) -> None:
    """Raises InvalidInput when something that a step names was deleted meanwhile."""
    for step in steps:
        if not work.removal.hold(step.inputs.frozen):
            message = "a model or data set that the step names was deleted meanwhile."
            raise InvalidInput([Problem(field=f"steps.{step.name}", message=message, remedy="Name another version.")])
