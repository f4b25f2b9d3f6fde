"""What a batch leaves: its answers as a file, and its errors as another one."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from fastapi.concurrency import run_in_threadpool

from api.datasets import service
from api.parts import Parts
from api.streaming import Received
from corpus.batch_requests import BatchRequest, requests_of
from jobspecs.batches import BatchState
from jobspecs.openai_ids import key_of, openai_id
from jobspecs.provenance import UNKNOWN
from storage.tables import BatchRow

log = logging.getLogger(__name__)

#: Where a batch ends that comes to its end in this state.
_ENDS = {
    BatchState.in_progress: BatchState.completed,
    BatchState.finalizing: BatchState.completed,
    BatchState.cancelling: BatchState.cancelled,
    BatchState.expired: BatchState.expired,
}
_EXPIRED = {"code": "batch_expired", "message": "The batch was not worked off within its window."}


async def finish(parts: Parts, row: BatchRow, state: BatchState, requests: Path, folder: Path) -> None:
    """Ends the batch. Done again, it makes the same files, which are there already.

    Nothing is done where somebody else has taken it on by now, or it was to be ended.
    """
    if state is BatchState.in_progress and not await run_in_threadpool(_finalizing, parts, row):
        return
    output = await _kept(parts, row, "output", folder, partial(_answers, parts, row, failed=False))
    errors = await _kept(parts, row, "errors", folder, partial(_errors, parts, row, state, requests))
    await run_in_threadpool(_end, parts, row, _ENDS[state], output, errors)


def _finalizing(parts: Parts, row: BatchRow) -> bool:
    with parts.database.unit_of_work() as work:
        return work.batches.move(row.id, BatchState.finalizing, fence=row.fence) is not None


def _end(parts: Parts, row: BatchRow, target: BatchState, output: UUID | None, errors: UUID | None) -> None:
    with parts.database.unit_of_work() as work:
        ended = work.batches.move(row.id, target, fence=row.fence, output_version_id=output, error_version_id=errors)
    log.info("batch %s: %s", row.id, target if ended is not None else "is somebody else's by now")


def _answers(parts: Parts, row: BatchRow, *, failed: bool) -> Iterator[str]:
    with parts.database.unit_of_work() as work:
        yield from work.batches.documents(row.id, failed=failed)


def _errors(parts: Parts, row: BatchRow, state: BatchState, requests: Path) -> Iterator[str]:
    """What was refused; of a batch that has expired also what was not asked."""
    yield from _answers(parts, row, failed=True)
    if state is not BatchState.expired:
        return
    with parts.database.unit_of_work() as work:
        answered = work.batches.answered(row.id)
    for request in requests_of(requests):
        if request.line not in answered:
            yield json.dumps(unanswered(row.id, request, _EXPIRED), ensure_ascii=False)


def unanswered(batch_id: UUID, request: BatchRequest, error: dict[str, str] | None) -> dict[str, Any]:
    """A line of the file of errors."""
    number = f"batch_req_{uuid5(batch_id, str(request.line)).hex}"
    return {"id": number, "custom_id": request.custom_id, "response": None, "error": error}


async def _kept(parts: Parts, row: BatchRow, what: str, folder: Path, lines: partial[Iterator[str]]) -> UUID | None:
    """The version of a data set that holds the lines; None where there are none."""
    name = f"batch-{row.id.hex[:12]}-{what}"
    file_name, table = service.checked_file_name(f"{openai_id('batch', row.id)}_{what}.jsonl")
    path = folder / file_name
    received = await run_in_threadpool(_written, path, lines)
    if received is None:
        return None
    read = partial(service.profiled, parts, file_name, table, received, parts.stopping.is_set)
    profile = await parts.readings.run(row.owner_id, read)
    push = partial(service.push, parts, row.owner_id, name, file_name, table, received, profile, UNKNOWN)
    keep = partial(push, parts.stopping.is_set, purpose="batch_output")
    version, _ = await parts.transfers.run(keep, patient=True)
    return key_of("file", version.file_id)


def _written(path: Path, lines: partial[Iterator[str]]) -> Received | None:
    found: Iterable[str] = lines()
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for line in found:
            content = line.encode() + b"\n"
            digest.update(content)
            size += len(content)
            file.write(content)
    return Received(path, size, digest.hexdigest()) if size else None
