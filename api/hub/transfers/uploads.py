"""/hf/lfs: content as git's large files travel, in one body or in parts, to addresses that a grant opens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.authentication import TheUser, requires
from api.errors import ApiError
from api.foreign_files import transferring
from api.hub.contents import Content, keep, stored
from api.hub.pushes import known, owner_of
from api.hub.repositories import Repository
from api.hub.routes import address, refusal
from api.hub.transfers.grants import GrantedRoute, grant, granted
from api.hub.write_schemas import BatchAnswer, Completion, ObjectWanted
from api.parts import Parts, ThePlatform
from api.streaming import Received, received_body
from jobspecs.pieces import Piece
from jobspecs.rights import Principal
from storage.keeping import keep_piece
from storage.objects import TransferStopped

router = APIRouter(route_class=GrantedRoute, tags=["hub"], prefix="/hf/lfs/{owner}/{sha256}")

#: Larger files come in parts of this size. A part is a piece (`jobspecs.pieces`).
PART_BYTES = 16 * 1024 * 1024
_PARTS_MAX = 10_000
#: Of all files of one question: each is told an address of half a kilobyte.
_PARTS_TOLD_MAX = 100_000
_RAW_BODY: dict[str, Any] = {
    "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}
Sha256 = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


def batch(
    parts: Parts, user: Principal, request: Request, repository: Repository, objects: list[ObjectWanted]
) -> BatchAnswer:
    """Where each object shall be sent; nowhere what is there already. Raises ApiError 404, 413."""
    bytes_max = _bytes_max(parts)
    if sum(_parts_of(wanted) for wanted in objects if wanted.size <= bytes_max) > _PARTS_TOLD_MAX:
        message = f"These files have more than {_PARTS_TOLD_MAX:,} parts of {PART_BYTES:,} bytes. Push fewer at once."
        raise ApiError(413, message)
    with parts.database.unit_of_work() as work:
        owner_id = owner_of(work, user, repository)
        there = known(work, user, repository, [wanted.oid for wanted in objects])
        work.hub_pushes.touch(owner_id, repository.kind, repository.name)
        for wanted in objects:
            if PART_BYTES < wanted.size <= bytes_max and wanted.oid not in there:
                work.hub_pushes.begin_upload(owner_id, wanted.oid, wanted.size)
    token, _ = grant(parts, request, repository)
    answers = [
        {"oid": wanted.oid, "size": wanted.size}
        if wanted.oid in there
        else _told(parts, request, repository, wanted, quote(token))
        for wanted in objects
    ]
    in_parts = any(wanted.size > PART_BYTES for wanted in objects)
    return BatchAnswer(transfer="multipart" if in_parts else "basic", objects=answers)


def _told(parts: Parts, request: Request, repository: Repository, wanted: ObjectWanted, token: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"oid": wanted.oid, "size": wanted.size}
    bytes_max = _bytes_max(parts)
    if wanted.size > bytes_max:
        return {**answer, "error": {"code": 422, "message": f"The file is larger than {bytes_max:,} bytes."}}
    here = address(parts, request, f"/hf/lfs/{repository.owner}/{wanted.oid}")
    upload: dict[str, Any] = {"href": f"{here}?grant={token}"}
    if wanted.size > PART_BYTES:
        numbers = range(1, _parts_of(wanted) + 1)
        hrefs = {f"{number:05d}": f"{here}/parts/{number}?grant={token}" for number in numbers}
        upload["header"] = {"chunk_size": str(PART_BYTES), **hrefs}
    return {**answer, "actions": {"upload": upload, "verify": {"href": f"{here}/verify?grant={token}"}}}


def _bytes_max(parts: Parts) -> int:
    return min(parts.settings.model_file_bytes_max, PART_BYTES * _PARTS_MAX)


def _parts_of(wanted: ObjectWanted) -> int:
    return -(-wanted.size // PART_BYTES)


@router.put("", openapi_extra=_RAW_BODY)
@requires("models.write")
async def send_object(
    platform: ThePlatform, user: TheUser, request: Request, owner: str, sha256: Sha256
) -> dict[str, Any]:
    """The body is the content of this sum."""
    owner_id = await run_in_threadpool(owner_of_upload, platform, user, request, owner)
    async with received_body(request, platform, bytes_max=platform.settings.model_file_bytes_max) as received:
        if received.sha256 != sha256:
            raise _other(received.sha256)
        async with transferring(request, platform.stopping) as should_stop:
            store = partial(_store, platform, owner_id, received, should_stop)
            await platform.transfers.run(store)
    return {}


@router.put("/parts/{number}", openapi_extra=_RAW_BODY)
@requires("models.write")
async def send_part(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    response: Response,
    owner: str,
    sha256: Sha256,
    number: Annotated[int, Path(ge=1, le=_PARTS_MAX)],
) -> dict[str, Any]:
    """One part of it. Clients want an `ETag`."""
    owner_id = await run_in_threadpool(owner_of_upload, platform, user, request, owner)
    async with received_body(request, platform, bytes_max=PART_BYTES) as received:
        store = partial(_store_part, platform, owner_id, sha256, number, received)
        await platform.transfers.run(store)
    response.headers["ETag"] = f'"{received.sha256}"'
    return {}


@router.post("")
@requires("models.write")
async def complete(
    platform: ThePlatform, user: TheUser, request: Request, owner: str, sha256: Sha256, body: Completion
) -> dict[str, Any]:
    """All parts were sent: they are read, and are the content if their sum says so."""
    owner_id = await run_in_threadpool(owner_of_upload, platform, user, request, owner)
    async with transferring(request, platform.stopping) as should_stop:
        await platform.transfers.run(partial(_complete, platform, owner_id, sha256, should_stop))
    return {}


@router.post("/verify")
@requires("models.write")
def verify(platform: ThePlatform, user: TheUser, request: Request, owner: str, sha256: Sha256) -> dict[str, Any]:
    """Whether it is here and whole."""
    owner_id = owner_of_upload(platform, user, request, owner)
    with platform.database.unit_of_work() as work:
        if not work.hub_pushes.uploaded(owner_id, [sha256]):
            raise ApiError(404, f"{sha256} was not sent, or not all of it.")
    return {}


def owner_of_upload(parts: Parts, user: Principal, request: Request, owner: str) -> UUID:
    """Whose it will be. Raises ApiError 404."""
    repository = granted(request)
    with parts.database.unit_of_work() as work:
        found = work.owners.find(user.reach("models.write"), owner)
        if found is None:
            raise refusal("RepoNotFound", "You can't send this for that owner.")
        if repository is not None:
            work.hub_pushes.touch(found.id, repository.kind, repository.name)
        return found.id


def _store(parts: Parts, owner_id: UUID, received: Received, should_stop: Callable[[], bool]) -> None:
    content = keep(parts, received.path, received.sha256, should_stop)
    note(parts, owner_id, content)


def note(parts: Parts, owner_id: UUID, content: Content) -> None:
    """The owner may name it in commits from now on."""
    with parts.database.unit_of_work() as work:
        pieces = content.document["pieces"]
        work.hub_pushes.complete_upload(owner_id, content.sha256, content.bytes, pieces)


def _store_part(parts: Parts, owner_id: UUID, sha256: str, number: int, received: Received) -> None:
    kept = keep_piece(parts.database, parts.objects, received.path.read_bytes())
    with parts.database.unit_of_work() as work:
        work.hub_pushes.add_part(owner_id, sha256, number, {"bytes": kept.bytes, "sha256": kept.sha256})


def _complete(parts: Parts, owner_id: UUID, sha256: str, should_stop: Callable[[], bool]) -> None:
    """Raises ApiError 404, 409, 422; TransferStopped."""
    with parts.database.unit_of_work() as work:
        row = work.hub_pushes.upload(owner_id, sha256)
        if row is None:
            raise ApiError(404, f"The upload of {sha256} was not begun, or more than a day ago.")
        if row.pieces is not None:
            return
        sent = [Piece.model_validate(row.parts[str(number)]) for number in range(1, _count(row.parts) + 1)]
        size = row.bytes
    if sum(piece.bytes for piece in sent) != size or any(piece.bytes != PART_BYTES for piece in sent[:-1]):
        raise ApiError(409, f"Parts of {sha256} are missing or have another size. Send them.", code="parts_missing")
    content = Content(bytes=size, sha256=sha256, pieces=tuple(sent))
    file = stored(parts, [("content", content)])["content"]
    digest = hashlib.sha256()
    with parts.objects.open_stored(file, 0, size) as stream:
        for chunk in stream:
            if should_stop():
                raise TransferStopped("Nobody waits for the upload any more.")
            digest.update(chunk)
    if digest.hexdigest() != sha256:
        raise _other(digest.hexdigest())
    note(parts, owner_id, content)


def _count(sent: dict[str, Any]) -> int:
    """Parts without a gap from the first on."""
    return next(number for number in range(len(sent) + 1) if str(number + 1) not in sent)


def _other(sha256: str) -> ApiError:
    return ApiError(422, f"The content arrived with sha256 {sha256}. Send it again.", code="sha256_mismatch")
