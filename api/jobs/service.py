"""Submitting, reading and cancelling jobs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from api.errors import ApiError, not_found
from api.jobs.inspecting import Asking, report_of_profile
from api.jobs.preparing import (
    check_room,
    frozen_inputs,
    inspected,
    memory_bytes_of,
    problems_by_profile,
    refuse_by_profile,
)
from api.jobs.presenting import detail, summary
from api.jobs.schemas import JobDetail, JobList, LogLine, LogPage
from api.parts import Parts
from api.references.uses import Deleted, check_unused
from jobspecs.data_report import DataReport
from jobspecs.deploying import Deploying
from jobspecs.estimate import Estimate
from jobspecs.events import LogEvent
from jobspecs.problems import InvalidInput, Problem
from jobspecs.registry import parse_spec
from jobspecs.rights import NotAllowed, Principal, Reach
from storage.database import UnitOfWork
from storage.tables import JobRow


def submit(
    parts: Parts,
    user: Principal,
    document: dict[str, Any],
    key: str | None,
    gone: Callable[[], bool],
    *,
    notes: Mapping[str, str] | None = None,
    first_use: Deploying | None = None,
) -> tuple[JobDetail, bool]:
    """Queues the job and commits it. With a known idempotency key: the earlier job, and False.

    `notes`: to find it by. `first_use`: how whoever asks the model first deploys it.

    Raises InvalidInput, and nothing is queued; ApiError 409 when the key was used for another spec.
    """
    spec = parse_spec(document)
    if problems := spec.problems_of_resources():
        raise InvalidInput(problems)
    request_sha256 = sha256_of(document)
    if key is not None and (earlier := _earlier(parts, user, key, request_sha256)):
        return earlier, False
    frozen = frozen_inputs(parts, user, spec)
    refuse_by_profile(spec, frozen)
    found = inspected(parts, Asking(user.user_id, gone), spec, frozen)
    if found.report is not None and found.report.problems:
        raise InvalidInput(found.report.problems)
    memory_bytes = memory_bytes_of(spec, found.estimate)
    inputs = frozen.inputs.model_copy(update={"checked": found.checked, "estimate": found.estimate})
    with parts.database.unit_of_work() as work:
        check_room(work, memory_bytes, spec.resources.gpus)
        if not work.removal.hold(inputs):
            message = "a model or data set that the spec names was deleted meanwhile."
            raise InvalidInput([Problem(message=message, remedy="Name another version.")])
        row, created = work.jobs.submit(
            user.reach("jobs.submit").maker,
            actor=user.actor,
            spec=spec.model_dump(mode="json"),
            inputs=inputs.model_dump(mode="json"),
            slots=1,
            memory_bytes=memory_bytes,
            gpus=spec.resources.gpus,
            max_runtime_s=spec.resources.max_runtime.total_seconds(),
            request_sha256=request_sha256,
            idempotency_key=key,
            warnings=[warning.model_dump(mode="json") for warning in found.report.warnings] if found.report else [],
            notes=notes,
        )
        if first_use is not None and created:
            work.models.set_first_use(row.owner_id, row.name, first_use.model_dump(mode="json"))
        # Two requests with one key may have met: then the earlier one counts here as well.
        check_same(row.request_sha256, request_sha256)
        return detail(work, row), created


def check(parts: Parts, user: Principal, document: dict[str, Any], gone: Callable[[], bool]) -> DataReport:
    """What `submit` would find out about the data; nothing is queued.

    Raises InvalidInput for what is no spec and for references that mean nothing; what is wrong with the data is in the
    report.
    """
    spec = parse_spec(document)
    frozen = frozen_inputs(parts, user, spec)
    if frozen.profile is not None and (absent := spec.absent_columns(frozen.profile)):
        return report_of_profile(spec, frozen, problems=absent)
    report = inspected(parts, Asking(user.user_id, gone), spec, frozen).report
    if report is None:
        raise InvalidInput(
            [Problem(field="kind", message=f"{spec.kind} reads no data set: there is nothing to check.")]
        )
    return report if report.problems else report.model_copy(update={"problems": problems_by_profile(spec, frozen)})


def estimate(parts: Parts, user: Principal, document: dict[str, Any], gone: Callable[[], bool]) -> Estimate:
    """What the job would take; nothing is queued. Raises InvalidInput as `submit` does."""
    spec = parse_spec(document)
    frozen = frozen_inputs(parts, user, spec)
    refuse_by_profile(spec, frozen)
    return inspected(parts, Asking(user.user_id, gone), spec, frozen).estimate


@dataclass(frozen=True)
class Whose:
    """Whose jobs a list shows: the caller's own unless more is asked for."""

    everybody: bool = False
    owner: str | None = None


def list_jobs(
    parts: Parts, user: Principal, whose: Whose, *, states: list[str], before: int | None, limit: int
) -> JobList:
    with parts.database.unit_of_work() as work:
        reach = _reach_of(work, user.reach("jobs.read"), whose)
        rows = work.jobs.list(reach, states=states, before=before, limit=limit + 1)
    page = rows[:limit]
    has_more = len(rows) > limit
    return JobList(
        data=[summary(row) for row in page],
        has_more=has_more,
        next_before=page[-1].submitted_order if has_more else None,
    )


def get_job(parts: Parts, user: Principal, job_id: UUID) -> JobDetail:
    with parts.database.unit_of_work() as work:
        return detail(work, found(work, user.reach("jobs.read"), job_id))


def boost(parts: Parts, user: Principal, job_id: UUID, boost: int) -> JobDetail:
    with parts.database.unit_of_work() as work:
        found(work, user.reach("jobs.boost"), job_id)
        row = work.jobs.boost(job_id, boost)
        if row is None:
            raise ApiError(409, "The job has ended already; nothing waits for it.", code="job_ended")
        return detail(work, row)


def cancel(parts: Parts, user: Principal, job_id: UUID) -> JobDetail:
    """Cancels a queued job at once; an active one is asked to stop and is `cancelling` until it has."""
    with parts.database.unit_of_work() as work:
        found(work, user.reach("jobs.cancel"), job_id)
        row = work.jobs.request_cancel(job_id, actor=user.actor)
        if row is None:
            raise ApiError(409, "The job has ended already; there is nothing to cancel.", code="job_ended")
        return detail(work, row)


def delete(parts: Parts, user: Principal, job_id: UUID) -> Deleted:
    """Deletes an ended job. Raises ApiError 404; 409 when it has not ended, or while another goes on from it."""
    with parts.database.unit_of_work() as work:
        found(work, user.reach("jobs.delete"), job_id)
        check_unused(f"The job {job_id}", work.removal.uses_of_job(job_id))
        freed_bytes = work.removal.delete_job(job_id)
        if freed_bytes is None:
            raise ApiError(409, "The job has not ended. Cancel it first, then delete it.", code="job_active")
        return Deleted(deleted=[str(job_id)], bytes=freed_bytes)


def logs(parts: Parts, user: Principal, job_id: UUID, *, fence: int, number: int, limit: int) -> LogPage:
    with parts.database.unit_of_work() as work:
        found(work, user.reach("jobs.read"), job_id)
        events = work.events.after(job_id, fence, number, limit=limit + 1, kinds=("log",))
    lines = [
        LogLine.of(item.fence, item.number, item.at, item.event)
        for item in events[:limit]
        if isinstance(item.event, LogEvent)
    ]
    if lines:
        fence, number = lines[-1].fence, lines[-1].number
    return LogPage(data=lines, has_more=len(events) > limit, cursor=f"{fence}-{max(number, 0)}")


def found(work: UnitOfWork, reach: Reach, job_id: UUID) -> JobRow:
    """Raises ApiError 404: what is out of reach does not exist."""
    row = work.jobs.find(reach, job_id)
    if row is None:
        raise not_found(f"job {job_id}")
    return row


def _reach_of(work: UnitOfWork, reach: Reach, whose: Whose) -> Reach:
    """Raises ApiError 404 for an owner out of reach, and 403 where everybody's jobs are."""
    if whose.owner is not None:
        owner = work.owners.find(reach, whose.owner)
        if owner is None:
            raise not_found(f"owner {whose.owner}")
        return Reach.of(owner.id)
    if whose.everybody and not reach.everybody:
        raise NotAllowed("Everybody's jobs are shown to administrators. Leave `all` out to see yours.")
    return reach if whose.everybody else reach.own


def _earlier(parts: Parts, user: Principal, key: str, request_sha256: str) -> JobDetail | None:
    with parts.database.unit_of_work() as work:
        row = work.jobs.find_by_key(user.reach("jobs.submit").maker, key)
        if row is None:
            return None
        check_same(row.request_sha256, request_sha256)
        return detail(work, row)


def check_same(earlier_sha256: str, sha256: str) -> None:
    if earlier_sha256 != sha256:
        raise ApiError(
            409,
            "This Idempotency-Key was used for another spec. Use a new key for a new job.",
            code="idempotency_key_reused",
            param="Idempotency-Key",
        )


def sha256_of(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
