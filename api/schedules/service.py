"""Making, showing, pausing and deleting schedules. A spec is checked whole when its schedule is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from api.errors import ApiError, not_found
from api.jobs.inspecting import Asking
from api.jobs.preparing import check_room, frozen_inputs, inspected, memory_bytes_of, refuse_by_profile
from api.parts import Parts
from api.pipelines.preparing import prepare
from api.schedules.schemas import Schedule, ScheduleDetail, ScheduleList, ScheduleRequest, ScheduleRun
from jobspecs.pipelines.frozen import StepInputs
from jobspecs.pipelines.reading import parse_pipeline
from jobspecs.problems import InvalidInput, Problem
from jobspecs.registry import parse_spec
from jobspecs.rights import Principal, Reach
from scheduling.cron import BadCron, Cron
from scheduling.schedules import Missed
from storage.database import UnitOfWork
from storage.repositories.jobs.pipelines import NewStep
from storage.tables import ScheduleRow

_RUNS_SHOWN = 20


def create(parts: Parts, user: Principal, request: ScheduleRequest, gone: Callable[[], bool]) -> ScheduleDetail:
    """Raises InvalidInput for a time that never comes, and for a spec that would not be queued now; ApiError 409."""
    try:
        cron = Cron.parse(request.cron, request.time_zone)
    except BadCron as error:
        remedy = "Such as: 0 9 * * 1 (Mondays at nine)" if error.field == "cron" else None
        raise InvalidInput([Problem(field=error.field, message=str(error), remedy=remedy)]) from error
    try:
        steps = _checked(parts, user, request.spec, gone)
    except InvalidInput as error:
        located = [
            one.model_copy(update={"field": f"spec.{one.field}" if one.field else "spec"}) for one in error.problems
        ]
        raise InvalidInput(located) from error
    owner_id = user.reach("schedules.write").maker
    with parts.database.unit_of_work() as work:
        row = work.schedules.add(
            owner_id,
            request.name,
            cron=cron.expression,
            time_zone=request.time_zone,
            missed=request.missed,
            document=request.spec,
            steps=steps,
            next_at=next(cron.after(work.schedules.now())),
        )
        if row is None:
            message = f"You have a schedule {request.name}. Delete it first: eigenwerk schedules rm {request.name}"
            raise ApiError(409, message, code="schedule_exists")
        return _detail(work, row)


def list_schedules(parts: Parts, user: Principal) -> ScheduleList:
    with parts.database.unit_of_work() as work:
        rows = work.schedules.list(user.reach("schedules.read"))
        return ScheduleList(data=[Schedule(**_told(work, row)) for row in rows])


def get(parts: Parts, user: Principal, name: str) -> ScheduleDetail:
    with parts.database.unit_of_work() as work:
        return _detail(work, _found(work, user.reach("schedules.read"), name))


def pause(parts: Parts, user: Principal, name: str) -> ScheduleDetail:
    with parts.database.unit_of_work() as work:
        row = _found(work, user.reach("schedules.write"), name, lock=True)
        work.schedules.pause(row)
        return _detail(work, row)


def resume(parts: Parts, user: Principal, name: str) -> ScheduleDetail:
    with parts.database.unit_of_work() as work:
        row = _found(work, user.reach("schedules.write"), name, lock=True)
        if row.paused_at is not None:
            work.schedules.resume(row, next(_cron(row).after(work.schedules.now())))
        return _detail(work, row)


def delete(parts: Parts, user: Principal, name: str) -> None:
    with parts.database.unit_of_work() as work:
        work.schedules.delete(_found(work, user.reach("schedules.write"), name, lock=True))


def _checked(parts: Parts, user: Principal, document: dict[str, Any], gone: Callable[[], bool]) -> list[NewStep]:
    if document.get("kind") == "pipeline":
        return prepare(parts, user, parse_pipeline(document), gone)
    spec = parse_spec(document)
    if problems := spec.problems_of_resources():
        raise InvalidInput(problems)
    frozen = frozen_inputs(parts, user, spec)
    refuse_by_profile(spec, frozen)
    found = inspected(parts, Asking(user.user_id, gone), spec, frozen)
    if found.report is not None and found.report.problems:
        raise InvalidInput(found.report.problems)
    memory_bytes = memory_bytes_of(spec, found.estimate)
    with parts.database.unit_of_work() as work:
        check_room(work, memory_bytes, spec.resources.gpus)
    inputs = frozen.inputs.model_copy(update={"checked": found.checked, "estimate": found.estimate})
    warnings = [warning.model_dump(mode="json") for warning in found.report.warnings] if found.report else []
    job = spec.model_dump(mode="json")
    return [NewStep(spec.name, spec.kind, job, None, (), StepInputs(frozen=inputs), memory_bytes, warnings)]


def _found(work: UnitOfWork, reach: Reach, name: str, *, lock: bool = False) -> ScheduleRow:
    row = work.schedules.find(reach, name, lock=lock)
    if row is None:
        raise not_found(f"schedule {name}")
    return row


def _cron(row: ScheduleRow) -> Cron:
    return Cron.parse(row.cron, row.time_zone)


def _detail(work: UnitOfWork, row: ScheduleRow) -> ScheduleDetail:
    runs = [
        ScheduleRun(
            due_at=run.due_at, ran_at=run.ran_at, job_id=run.job_id, pipeline_id=run.pipeline_id, refused=run.refused
        )
        for run in work.schedules.runs(row.id, limit=_RUNS_SHOWN)
    ]
    return ScheduleDetail(**_told(work, row), spec=row.document, runs=runs)


def _told(work: UnitOfWork, row: ScheduleRow) -> dict[str, Any]:
    paused = row.paused_at is not None
    return {
        "id": row.id,
        "name": row.name,
        "owner": row.owner.name,
        "cron": row.cron,
        "time_zone": row.time_zone,
        "missed": Missed(row.missed),
        "kind": row.document["kind"],
        "state": "paused" if paused else "active",
        "next_times": [] if paused else _cron(row).next_five(work.schedules.now()),
        "created_at": row.created_at,
    }
