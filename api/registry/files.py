"""/v1/registry/models/…/files/…: the bytes of a model, from the object store where the client can reach it."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.authentication import TheUser, guarded_router, public, requires
from api.documented import ErrorAnswer, of_type
from api.errors import not_found
from api.object_links import SharedFile, direct_endpoint, opened
from api.parts import Parts, ThePlatform
from api.registry.endpoints import Name, Selector
from api.registry.exporting import Export
from api.registry.schemas import FilePart, FileParts, Link, LinkWish
from api.registry.service import find, selected
from api.stored_files import FILE_RESPONSES, FileWish, send_stored
from api.streaming import ClosingStream
from jobspecs.manifest import Manifest
from jobspecs.pieces import StoredFile
from jobspecs.references import Reference
from jobspecs.rights import Principal

router = guarded_router("registry")

#: Seconds for which the links to the parts of a file hold; what takes longer comes by the file's own URL.
PART_LIFE_S = 3600

_PATH = "/v1/registry/models/{owner}/{name}/versions/{selector}/files/{path:path}"


@router.head(_PATH, response_class=Response, include_in_schema=False)
@router.get(
    _PATH,
    response_class=Response,
    responses=FILE_RESPONSES,
)
@requires("models.read")
async def get_file(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    owner: Name,
    name: Name,
    selector: Selector,
    path: str,
    wish: Annotated[FileWish, Depends()],
) -> Response:
    """One file. `ETag` and `X-Content-SHA256` are its sha256; `Range` (one range) resumes a download.

    A client that can reach the object store is sent there (302), unless it asks for `redirect=false`, or with
    `If-Range`. A whole file that is sent from here is verified meanwhile: if the stored bytes are not what was
    registered the connection breaks before the last of them, so a damaged file never arrives complete. Who asks for
    ranges, or is redirected, must check the sum.
    """
    reference = selected(owner, name, selector)
    file = await run_in_threadpool(_locate, platform, user, reference, path)
    return await send_stored(platform, request, wish, file, moves=reference.version is None)


@router.get("/v1/registry/models/{owner}/{name}/versions/{selector}/parts/{path:path}")
@requires("models.read")
async def get_parts(
    platform: ThePlatform, user: TheUser, request: Request, owner: Name, name: Name, selector: Selector, path: str
) -> FileParts:
    """What a file consists of, to be fetched side by side: each part's bytes, its sha256, and where it can be had."""
    file = await run_in_threadpool(_locate, platform, user, selected(owner, name, selector), path)
    endpoint = direct_endpoint(platform.settings, request)
    parts, start = [], 0
    for piece in file.pieces:
        url = None
        if endpoint is not None:
            url = platform.objects.presigned_get(piece.key, PART_LIFE_S, public_endpoint=endpoint)
        parts.append(FilePart(start=start, bytes=piece.bytes, sha256=piece.sha256, url=url))
        start += piece.bytes
    return FileParts(path=file.path, bytes=file.bytes, sha256=file.sha256, parts=parts)


@router.get(
    "/v1/registry/models/{owner}/{name}/versions/{selector}/export",
    response_class=Response,
    responses={200: of_type("application/x-tar", format="binary")},
)
@requires("models.read")
async def export_version(platform: ThePlatform, user: TheUser, owner: Name, name: Name, selector: Selector) -> Response:
    """The version as one tar file of the folder NAME-vN: SHA256SUMS, manifest.json and its files.

    They are verified while they are sent.
    """
    export, stem = await run_in_threadpool(_export, platform, user, selected(owner, name, selector))
    headers = {
        "Content-Length": str(export.size),
        "Content-Disposition": f'attachment; filename="{stem}.tar"',
        "Cache-Control": "private, no-cache",
    }
    return ClosingStream(export.chunks(platform), headers=headers, media_type="application/x-tar")


def _export(parts: Parts, user: Principal, reference: Reference) -> tuple[Export, str]:
    with parts.database.unit_of_work() as work:
        row = find(work, user.reach("models.read"), reference)
        manifest = Manifest.model_validate(row.manifest)
        folder = f"{row.model.name}-v{row.version}"
        return Export(folder, manifest, work.blobs.files_of(row), int(row.created_at.timestamp())), folder


@router.post("/v1/registry/models/{owner}/{name}/versions/{selector}/links", status_code=201)
@requires("models.read")
def make_link(
    platform: ThePlatform, user: TheUser, request: Request, owner: Name, name: Name, selector: Selector, wish: LinkWish
) -> Link:
    """A link with which anybody may fetch one file of the version, until it expires or the version is deleted."""
    with platform.database.unit_of_work() as work:
        row = find(work, user.reach("models.read"), selected(owner, name, selector))
        file = Manifest.model_validate(row.manifest).file(wish.path)
        if file is None:
            raise not_found(f"file {wish.path!r} in model {owner}/{name}@{row.version}")
        expires_at = work.hosts.clock() + timedelta(seconds=wish.expires_s)
    shared = SharedFile(row.id, wish.path, int(expires_at.timestamp()))
    base = (platform.settings.public_url or str(request.base_url)).rstrip("/")
    return Link(
        url=f"{base}/v1/links/{shared.sealed(platform.settings)}",
        expires_at=expires_at,
        **file.model_dump(),
    )


_LINK = "/v1/links/{secret}"


@router.head(_LINK, response_class=Response, include_in_schema=False)
@router.get(_LINK, response_class=Response, responses={**FILE_RESPONSES, 410: {"model": ErrorAnswer}})
@public
async def get_shared(
    platform: ThePlatform, request: Request, secret: str, wish: Annotated[FileWish, Depends()]
) -> Response:
    """The file that a link was made for: no token is needed. 410 when it has expired."""
    shared = opened(platform.settings, secret, time.time())
    file = await run_in_threadpool(_shared, platform, shared)
    return await send_stored(platform, request, wish, file, moves=False)


def _shared(parts: Parts, shared: SharedFile) -> StoredFile:
    with parts.database.unit_of_work() as work:
        row = work.models.get_version_or_none(shared.version_id)
        found = () if row is None else work.blobs.files_of(row)
    file = next((file for file in found if file.path == shared.path), None)
    if file is None:
        raise not_found("file of this link any more: its version was deleted")
    return file


def _locate(parts: Parts, user: Principal, reference: Reference, path: str) -> StoredFile:
    """Where the file is. Only what a manifest names can be fetched."""
    with parts.database.unit_of_work() as work:
        row = find(work, user.reach("models.read"), reference)
        file = next((file for file in work.blobs.files_of(row) if file.path == path), None)
        if file is None:
            raise not_found(f"file {path!r} in model {reference}")
        return file
