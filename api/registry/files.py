"""/v1/registry/models/…/files/…: the bytes of a model, verified while they flow."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.authentication import TheUser, guarded_router, requires
from api.errors import not_found
from api.parts import Parts, ThePlatform
from api.registry.endpoints import Name, Selector
from api.registry.service import find, selected
from api.stored_files import FILE_RESPONSES, FileWish, send_stored
from jobspecs.pieces import StoredFile
from jobspecs.references import Reference
from jobspecs.rights import Principal

router = guarded_router("registry")

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

    A whole file is verified while it is sent: if the stored bytes are not what was registered the connection breaks
    before the last of them, so a damaged file never arrives complete. Who asks for ranges must check the sum.
    """
    reference = selected(owner, name, selector)
    file = await run_in_threadpool(_locate, platform, user, reference, path)
    return await send_stored(platform, request, wish, file, moves=reference.version is None)


def _locate(parts: Parts, user: Principal, reference: Reference, path: str) -> StoredFile:
    """Where the file is. Only what a manifest names can be fetched."""
    with parts.database.unit_of_work() as work:
        row = find(work, user.reach("models.read"), reference)
        file = next((file for file in work.blobs.files_of(row) if file.path == path), None)
        if file is None:
            raise not_found(f"file {path!r} in model {reference}")
        return file
