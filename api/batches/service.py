"""Submitting, reading and cancelling batches. `api.batches.working` works them off."""

from __future__ import annotations

from api.batches.schemas import Batch, BatchList, BatchSubmission, batch_of
from api.errors import ApiError
from api.files import service as files
from api.parts import Parts
from jobspecs.batches import BatchState
from jobspecs.openai_ids import key_of
from jobspecs.rights import Principal
from storage.database import UnitOfWork
from storage.tables import BatchRow

#: Of one user, that have not ended.
UNENDED_MAX = 50


def submit(parts: Parts, user: Principal, wanted: BatchSubmission) -> Batch:
    """Raises ApiError 400 for a file that is none of requests, and 429 for one batch too many."""
    owner_id = user.reach("batches.write").maker
    with parts.database.unit_of_work() as work:
        file = files.find(work, user, wanted.input_file_id, param="input_file_id")
        if file.purpose != "batch":
            message = f"The file was sent for the purpose {file.purpose}. Send it for the purpose batch."
            raise ApiError(400, message, code="wrong_purpose", param="input_file_id")
        if work.batches.unended(owner_id) >= UNENDED_MAX:
            raise ApiError(
                429, f"{UNENDED_MAX} of your batches have not ended. Wait for some.", code="too_many_batches"
            )
        if not work.removal.hold_dataset(file.id):
            raise ApiError(400, "The file was deleted meanwhile.", code="file_not_found", param="input_file_id")
        row = work.batches.submit(
            owner_id, endpoint=wanted.endpoint, input_version_id=file.id, notes=wanted.metadata or {}
        )
        return _shown(work, row)


def list_batches(parts: Parts, user: Principal, *, after: str | None, limit: int) -> BatchList:
    """Newest first."""
    reach = user.reach("batches.read")
    with parts.database.unit_of_work() as work:
        behind = _found(work, user, after, param="after") if after else None
        rows = work.batches.list(reach, after=behind, limit=limit + 1)
        data = [_shown(work, row) for row in rows[:limit]]
    ends = (data[0].id, data[-1].id) if data else (None, None)
    return BatchList(data=data, first_id=ends[0], last_id=ends[1], has_more=len(rows) > limit)


def get(parts: Parts, user: Principal, batch_id: str) -> Batch:
    with parts.database.unit_of_work() as work:
        return _shown(work, _found(work, user, batch_id))


def cancel(parts: Parts, user: Principal, batch_id: str) -> Batch:
    """It is `cancelling` until the answers that it has are files. Raises ApiError 409 for one that ends or has."""
    with parts.database.unit_of_work() as work:
        row = _found(work, user, batch_id)
        if row.state != BatchState.cancelling:
            moved = work.batches.move(row.id, BatchState.cancelling)
            if moved is None:
                raise ApiError(409, f"The batch is {row.state}; there is nothing to cancel.", code="batch_ended")
            row = moved
        return _shown(work, row)


def _found(work: UnitOfWork, user: Principal, batch_id: str, *, param: str | None = None) -> BatchRow:
    """Raises ApiError 404, and 400 where it is `param` of a request."""
    key = key_of("batch", batch_id)
    row = work.batches.find(user.reach("batches.read"), key) if key is not None else None
    if row is None:
        message = f"There is no batch {batch_id[:100]}."
        raise ApiError(404 if param is None else 400, message, code="batch_not_found", param=param)
    return row


def _shown(work: UnitOfWork, row: BatchRow) -> Batch:
    return batch_of(row, work.batches.counts(row.id))
