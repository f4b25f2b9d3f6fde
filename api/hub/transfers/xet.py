"""/hf/xet: content as chunks, which clients since huggingface_hub 1.20 send, and files put together from them."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path as FilePath
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from api.authentication import TheUser, requires
from api.errors import ApiError
from api.hub.contents import keep
from api.hub.transfers.grants import GrantedRoute
from api.hub.transfers.uploads import note, owner_of_upload
from api.hub.transfers.xet_format import SHARD_BYTES_MAX, XORB_BYTES_MAX, BadXet, ShardFile, Term, Xorb, files_of_shard
from api.inspection_cache import new_folder
from api.parts import Parts, ThePlatform
from api.streaming import Received, received_body
from jobspecs.pieces import Piece
from storage.keeping import keep_piece
from storage.objects import TransferStopped
from storage.repositories.registry.hub_pushes import XORBS_KEPT_S

router = APIRouter(route_class=GrantedRoute, tags=["hub"], prefix="/hf/xet/{owner}/{period}")

#: Seconds for which the address is the same: a day less than xorbs are kept, for pushes that take long.
_PERIOD_S = XORBS_KEPT_S - 24 * 3600
#: Xorbs in memory while files are put together: one after the other, as their terms come.
_XORBS_AT_ONCE = 3
_BODY = {"requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}
#: See `current_period`: nothing here depends on it.
Period = Annotated[str, Path(max_length=40)]
Name = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


class XorbTaken(BaseModel):
    was_inserted: bool = True


class ShardTaken(BaseModel):
    #: 1: its files are there now.
    result: int = 1


def current_period(owner_id: UUID) -> str:
    """A part of the address. Clients remember by address what they sent, and name it again instead of sending it.

    So it changes with the owner, with a platform that begins anew, and before what was sent is forgotten.
    """
    return f"{owner_id.hex[:12]}-{int(time.time() // _PERIOD_S)}"


@router.post("/v1/xorbs/default/{name}", openapi_extra=_BODY)
@requires("models.write")
async def send_xorb(
    platform: ThePlatform, user: TheUser, request: Request, owner: str, period: str, name: Name
) -> XorbTaken:
    """Chunks in one body."""
    owner_id = await run_in_threadpool(owner_of_upload, platform, user, request, owner)
    async with received_body(request, platform, bytes_max=XORB_BYTES_MAX) as received:
        await platform.chunks.run(partial(_keep_xorb, platform, owner_id, name, received))
    return XorbTaken()


@router.post("/v1/shards", openapi_extra=_BODY)
@requires("models.write")
async def send_shard(platform: ThePlatform, user: TheUser, request: Request, owner: str, period: Period) -> ShardTaken:
    """Of which chunks files consist: they are put together, and refused unless their sha256 is right."""
    owner_id = await run_in_threadpool(owner_of_upload, platform, user, request, owner)
    async with received_body(request, platform, bytes_max=SHARD_BYTES_MAX) as received:
        # A client that leaves asks again: what was put together by then is there.
        await platform.chunks.run(partial(_put_together, platform, owner_id, received))
    return ShardTaken()


@router.api_route(
    "/{path:path}", methods=["GET", "HEAD", "POST", "PUT"], response_class=Response, include_in_schema=False
)
@requires("models.write")
async def anything_else(owner: str, period: Period, path: str) -> Response:
    """What clients try first: chunks that others have sent, and addresses of the object store. They go on without."""
    raise ApiError(404, f"There is nothing at {path[:200]}.")


def _keep_xorb(parts: Parts, owner_id: UUID, name: str, received: Received) -> None:
    body = received.path.read_bytes()
    try:
        Xorb(body)
    except BadXet as error:
        raise ApiError(422, f"The xorb can't be read: {error}.", code="bad_xorb") from error
    kept = keep_piece(parts.database, parts.objects, body)
    with parts.database.unit_of_work() as work:
        work.blobs.hold([Piece(bytes=kept.bytes, sha256=kept.sha256)], for_s=XORBS_KEPT_S)
        work.hub_pushes.add_xorb(owner_id, name, kept.sha256, kept.bytes)


def _put_together(parts: Parts, owner_id: UUID, shard: Received) -> None:
    """Raises ApiError 422 for what can't be, or is not what it says; TransferStopped."""
    folder = new_folder(parts.spool.folder)
    try:
        files = files_of_shard(shard.path.read_bytes())
        with parts.database.unit_of_work() as work:
            there = {*work.hub_pushes.uploaded(owner_id, [file.sha256 for file in files])}
        xorbs = _Xorbs(parts, owner_id)
        for file in files:
            if file.sha256 not in there:
                path = folder / "content"
                _write(file, path, xorbs, parts.settings.model_file_bytes_max, parts.stopping.is_set)
                note(parts, owner_id, keep(parts, path, file.sha256, parts.stopping.is_set))
                there.add(file.sha256)
    except BadXet as error:
        raise ApiError(422, f"The shard can't be used: {error}.", code="bad_shard") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(file: ShardFile, path: FilePath, xorbs: _Xorbs, bytes_max: int, should_stop: Callable[[], bool]) -> None:
    """Raises BadXet, TransferStopped."""
    digest = hashlib.sha256()
    size = 0
    with path.open("wb") as target:
        for term in file.terms:
            xorb = xorbs.of(term)
            size += xorb.bytes_of(term)
            if size > bytes_max:
                raise BadXet(f"a file is larger than {bytes_max:,} bytes")
            for chunk in xorb.unpacked(term):
                digest.update(chunk)
                target.write(chunk)
            if should_stop():
                raise TransferStopped("The server is going away.")
    if digest.hexdigest() != file.sha256:
        raise BadXet(f"its chunks have the sha256 {digest.hexdigest()}, not {file.sha256}")


class _Xorbs:
    """What the owner sent, fetched as it is needed."""

    def __init__(self, parts: Parts, owner_id: UUID) -> None:
        self._parts = parts
        self._owner_id = owner_id
        self._kept: OrderedDict[str, Xorb] = OrderedDict()

    def of(self, term: Term) -> Xorb:
        """Raises BadXet."""
        if term.xorb not in self._kept:
            self._kept[term.xorb] = Xorb(self._body(term.xorb))
            if len(self._kept) > _XORBS_AT_ONCE:
                self._kept.popitem(last=False)
        return self._kept[term.xorb]

    def _body(self, name: str) -> bytes:
        with self._parts.database.unit_of_work() as work:
            found = work.hub_pushes.xorbs(self._owner_id, [name]).get(name)
        if found is None:
            remedy = "Delete the folder xet in your cache of the hub (HF_HOME), and push again"
            raise BadXet(f"the xorb {name[:12]}… is not here any more, or never was. {remedy}")
        key, size = found
        return self._parts.objects.get_bytes(key, max_bytes=size)
