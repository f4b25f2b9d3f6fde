"""Retrying: a new job with an ended one's spec and inputs, which goes on from its newest checkpoint."""

from __future__ import annotations

from uuid import UUID

from api.errors import ApiError
from api.jobs.preparing import check_room
from api.jobs.presenting import detail
from api.jobs.schemas import JobDetail
from api.jobs.service import check_same, found, sha256_of
from api.parts import Parts
from jobspecs.frozen import FrozenInputs
from jobspecs.lifecycle import TERMINAL, JobState
from jobspecs.rights import Principal
from storage.database import UnitOfWork
from storage.tables import JobRow


def retry(
    parts: Parts, user: Principal, job_id: UUID, key: str | None, *, checkpoint_required: bool
) -> tuple[JobDetail, bool]:
    """Queues the retry and commits it. With a known idempotency key: the earlier job, and False.

    Spec and frozen inputs are the ended job's own, so the checkpoint fits them. Without one the retry starts anew,
    unless `checkpoint_required`. Raises ApiError 404 and 409, InvalidInput when no host is large enough any more.
    """
    request_sha256 = sha256_of({"retry_of": str(job_id), "checkpoint_required": checkpoint_required})
    with parts.database.unit_of_work() as work:
        # Locks the job: its checkpoints can't expire and nobody else can retry or delete it meanwhile.
        active = work.removal.uses_of_job(job_id)
        row = found(work, user.reach("jobs.retry"), job_id)
        earlier = work.jobs.find_by_key(row.owner_id, key) if key else None
        if earlier is not None:
            check_same(earlier.request_sha256, request_sha256)
            return detail(work, earlier), False
        _refuse(work, row, retried_by=active[0].name if active else None)
        check_room(work, row.memory_bytes, row.gpus)
        new, created = work.jobs.submit(
            row.owner_id,
            actor=user.actor,
            spec=row.spec,
            inputs=row.inputs,
            slots=row.slots,
            memory_bytes=row.memory_bytes,
            gpus=row.gpus,
            max_runtime_s=row.max_runtime_s,
            request_sha256=request_sha256,
            idempotency_key=key,
            warnings=row.warnings,
            retry_of=row.id,
        )
        check_same(new.request_sha256, request_sha256)
        if created and work.checkpoints.adopt(row.id, new.id) is None and checkpoint_required:
            raise ApiError(
                409,
                "The job has no checkpoint, or none any more; nothing was queued. Retry without checkpoint_required to "
                "start anew.",
                code="checkpoint_gone",
            )
        return detail(work, new), created


def _refuse(work: UnitOfWork, row: JobRow, *, retried_by: str | None) -> None:
    """Raises ApiError 409 when the job can't be retried."""
    if row.state == JobState.succeeded:
        raise ApiError(409, "The job has succeeded. Submit its spec again to train once more.", code="job_succeeded")
    if JobState(row.state) not in TERMINAL:
        raise ApiError(
            409, f"The job is still {row.state}, and is tried again by itself. Cancel it first.", code="job_active"
        )
    if retried_by is not None:
        raise ApiError(409, f"Job {retried_by} retries it already. Wait for its end.", code="job_retried_already")
    if not work.removal.hold(FrozenInputs.model_validate(row.inputs)):
        raise ApiError(
            409, "Its data set or model was deleted meanwhile. Submit a spec with others.", code="inputs_deleted"
        )
