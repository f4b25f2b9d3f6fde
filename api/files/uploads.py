"""/v1/uploads: a file that comes in parts, each an object of its own until the file is whole."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path as FilePath
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import Path, Request
from fastapi.concurrency import run_in_threadpool

from api.authentication import TheUser, requires
from api.datasets.schemas import version_of
from api.datasets.service import checked_file_name
from api.errors import ApiError
from api.files import service
from api.files.forms import received_form
from api.files.schemas import Upload, UploadCompletion, UploadPart, UploadRequest, file_of, part_of, upload_of
from api.foreign_files import transferring
from api.inference.openai_route import openai_router
from api.parts import Parts, ThePlatform
from api.streaming import Received
from jobspecs.openai_ids import key_of, openai_id
from jobspecs.rights import Principal
from storage.database import UnitOfWork
from storage.objects import ObjectCorrupt, ObjectStore, TransferStopped
from storage.repositories.registry.uploads import folder_of
from storage.tables import UploadPartRow, UploadRow

router = openai_router("files")

#: As at OpenAI's.
PART_BYTES_MAX = 64 * 1024**2
PARTS_MAX = 1000
#: Of one user at once.
PENDING_MAX = 32
UploadId = Annotated[str, Path(max_length=100, description="upload_…")]


@router.post("/v1/uploads")
@requires("datasets.write")
def begin(platform: ThePlatform, user: TheUser, body: UploadRequest) -> Upload:
    """Says that a file will come in parts, within an hour."""
    checked_file_name(service.named(body.filename))
    largest = service.bytes_max(platform, body.purpose)
    if body.bytes > largest:
        raise ApiError(413, f"A file for {body.purpose} may have {largest:,} bytes.", param="bytes")
    owner_id = user.reach("datasets.write").maker
    with platform.database.unit_of_work() as work:
        if work.uploads.pending(owner_id) >= PENDING_MAX:
            message = f"{PENDING_MAX} of your uploads wait for parts. Complete or cancel some."
            raise ApiError(429, message, code="too_many_uploads")
        row = work.uploads.begin(owner_id, file_name=body.filename, purpose=body.purpose, bytes_total=body.bytes)
        return upload_of(row, "pending")


@router.post("/v1/uploads/{upload_id}/parts")
@requires("datasets.write")
async def add_part(platform: ThePlatform, user: TheUser, request: Request, upload_id: UploadId) -> UploadPart:
    """The form's field `data` is the part, 64 MiB at most; parts may come in any order, and several at once."""
    row = await run_in_threadpool(_open, platform, user, upload_id)
    async with received_form(request, platform, "data", bytes_max=min(PART_BYTES_MAX, row.bytes)) as form:
        if not form.file.bytes:
            raise ApiError(400, "The part is empty.", param="data")
        # Before it is stored: what is refused would lie there until the upload ends.
        await run_in_threadpool(_open, platform, user, upload_id, form.file.bytes)
        async with transferring(request, platform.stopping) as should_stop:
            part_id = uuid4()
            send = partial(platform.objects.upload_file, form.file.path, _key(row.id, part_id))
            await platform.transfers.run(partial(send, sha256=form.file.sha256, should_stop=should_stop))
        return await run_in_threadpool(_note, platform, user, upload_id, part_id, form.file)


@router.post("/v1/uploads/{upload_id}/complete")
@requires("datasets.write")
async def complete(
    platform: ThePlatform, user: TheUser, request: Request, upload_id: UploadId, body: UploadCompletion
) -> Upload:
    """Puts the parts together in the order of `part_ids`, and takes the file as POST /v1/files does."""
    row, parts = await run_in_threadpool(_parts, platform, user, upload_id, body.part_ids)
    with tempfile.TemporaryDirectory(prefix="upload-", dir=platform.spool.folder) as folder:
        async with transferring(request, platform.stopping) as should_stop:
            put = partial(_put_together, platform.objects, row.id, parts, FilePath(folder) / "whole", should_stop)
            received, md5 = await platform.transfers.run(put)
        if body.md5 is not None and body.md5.lower() != md5:
            raise ApiError(400, f"The parts together have md5 {md5}.", code="md5_mismatch", param="md5")
        file = await service.take(platform, request, user, received, row.file_name, row.purpose)
    return await run_in_threadpool(_completed, platform, user, upload_id, file.id)


@router.post("/v1/uploads/{upload_id}/cancel")
@requires("datasets.write")
def cancel(platform: ThePlatform, user: TheUser, upload_id: UploadId) -> Upload:
    """Nothing more may come, and what came goes."""
    with platform.database.unit_of_work() as work:
        row = _find(work, user, upload_id)
        if row.state != "cancelled":
            _refuse_ended(work, row)
            work.uploads.end(row, "cancelled")
        return upload_of(row, "cancelled")


def _find(work: UnitOfWork, user: Principal, upload_id: str) -> UploadRow:
    """Locked. Raises ApiError 404."""
    key = key_of("upload", upload_id)
    row = work.uploads.find(user.reach("datasets.write"), key, lock=True) if key is not None else None
    if row is None:
        raise ApiError(404, f"There is no upload {upload_id}.", code="upload_not_found")
    return row


def _refuse_ended(work: UnitOfWork, row: UploadRow) -> None:
    """Raises ApiError 409."""
    if row.state != "pending":
        raise ApiError(409, f"The upload is {row.state} already.", code="upload_ended")
    if work.uploads.is_over(row):
        raise ApiError(409, "The upload has expired. Begin another one.", code="upload_expired")


def _open(parts: Parts, user: Principal, upload_id: str, part_bytes: int = 0) -> UploadRow:
    """The upload, which takes another part of so many bytes. Raises ApiError 404, 409, and 400 for too many."""
    with parts.database.unit_of_work() as work:
        return _taking(work, user, upload_id, part_bytes)


def _taking(work: UnitOfWork, user: Principal, upload_id: str, part_bytes: int) -> UploadRow:
    row = _find(work, user, upload_id)
    _refuse_ended(work, row)
    there = work.uploads.parts(row)
    if len(there) >= PARTS_MAX or sum(one.bytes for one in there) + part_bytes > 2 * row.bytes:
        message = f"These are more than {PARTS_MAX:,} parts, or twice as many bytes as the upload was to have."
        raise ApiError(400, message, code="too_many_parts", param="data")
    return row


def _key(upload_id: UUID, part_id: UUID) -> str:
    return f"{folder_of(upload_id)}/{part_id}"


def _note(parts: Parts, user: Principal, upload_id: str, part_id: UUID, part: Received) -> UploadPart:
    with parts.database.unit_of_work() as work:
        row = _taking(work, user, upload_id, part.bytes)
        return part_of(work.uploads.add_part(row, part_id, bytes_total=part.bytes, sha256=part.sha256))


def _parts(
    parts: Parts, user: Principal, upload_id: str, part_ids: Sequence[str]
) -> tuple[UploadRow, list[UploadPartRow]]:
    """The parts in their order. Raises ApiError 400 for unknown ones, and when they are not the whole file."""
    with parts.database.unit_of_work() as work:
        row = _find(work, user, upload_id)
        _refuse_ended(work, row)
        there = {openai_id("part", part.id): part for part in work.uploads.parts(row)}
    unknown = [part_id for part_id in part_ids if part_id not in there]
    if unknown or len(set(part_ids)) != len(part_ids):
        what = f"There is no part {unknown[0]}" if unknown else "A part is named twice"
        raise ApiError(400, f"{what} in this upload.", code="part_not_found", param="part_ids")
    named = [there[part_id] for part_id in part_ids]
    bytes_total = sum(part.bytes for part in named)
    if bytes_total != row.bytes:
        message = f"The parts have {bytes_total:,} bytes, and the upload was to have {row.bytes:,}."
        raise ApiError(400, message, code="bytes_mismatch", param="part_ids")
    return row, named


def _put_together(
    objects: ObjectStore,
    upload_id: UUID,
    parts: Sequence[UploadPartRow],
    path: FilePath,
    should_stop: Callable[[], bool],
) -> tuple[Received, str]:
    """The file, and its md5. Raises TransferStopped, ObjectCorrupt, ObjectNotFound."""
    whole, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("wb") as file:
        for part in parts:
            digest = hashlib.sha256()
            with objects.open_range(_key(upload_id, part.id), 0, part.bytes) as chunks:
                for chunk in chunks:
                    if should_stop():
                        raise TransferStopped
                    for hashed in (digest, whole, md5):
                        hashed.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != part.sha256:
                raise ObjectCorrupt(_key(upload_id, part.id), f"sha256 {part.sha256}", digest.hexdigest())
    return Received(path, path.stat().st_size, whole.hexdigest()), md5.hexdigest()


def _completed(parts: Parts, user: Principal, upload_id: str, file_id: str) -> Upload:
    with parts.database.unit_of_work() as work:
        row = _find(work, user, upload_id)
        file = service.find(work, user, file_id)
        if row.state == "pending":
            work.uploads.end(row, "completed", file.id)
        return upload_of(row, "completed", file_of(version_of(file)))
