"""/v1/registry/imports: a model from elsewhere becomes a version. Nobody sees it before it is complete."""

from __future__ import annotations

import shutil
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import Path, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.authentication import TheUser, guarded_router, requires
from api.foreign_files import MODEL_REMEDY, transferring
from api.inspection_cache import new_folder
from api.parts import ThePlatform
from api.registry import importing
from api.registry.imported_files import check_import_path
from api.registry.schemas import (
    FileOfPieces,
    Import,
    ImportedFile,
    ImportRequest,
    MissingPieces,
    ModelVersionDetail,
    Pieces,
    StoredPieceOfImport,
)
from api.streaming import received_body, too_large
from jobspecs.pieces import PIECE_BYTES_MAX

router = guarded_router("registry")

Sha256 = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]

_RAW_BODY: dict[str, Any] = {
    "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.post("/v1/registry/imports", status_code=201)
@requires("models.write")
def start_import(platform: ThePlatform, user: TheUser, request: ImportRequest) -> Import:
    """Begins an import."""
    return importing.start(platform, user, request.name)


@router.put("/v1/registry/imports/{import_id}/files/{path:path}", status_code=201, openapi_extra=_RAW_BODY)
@requires("models.write")
async def send_file(
    platform: ThePlatform, user: TheUser, request: Request, response: Response, import_id: UUID, path: str
) -> ImportedFile:
    """The body is the file. Sending the same content again is harmless; other content for the same path is refused."""
    check_import_path(path)
    await run_in_threadpool(importing.check_open, platform, user, import_id)
    async with received_body(request, platform, bytes_max=platform.settings.model_file_bytes_max) as received:
        check = partial(importing.check, platform, path, received)
        await platform.readings.read(request, user.user_id, path, MODEL_REMEDY, check)
        async with transferring(request, platform.stopping) as should_stop:
            store = partial(importing.store, platform, user, import_id, path, received, should_stop)
            return await platform.transfers.run(store)


@router.post("/v1/registry/imports/{import_id}/pieces")
@requires("models.write")
def ask_for_pieces(platform: ThePlatform, user: TheUser, import_id: UUID, request: Pieces) -> MissingPieces:
    """Which of the pieces that you have must be sent. What you have stored already needn't be."""
    return MissingPieces(missing=importing.missing_pieces(platform, user, import_id, request.pieces))


@router.put("/v1/registry/imports/{import_id}/pieces/{sha256}", status_code=201, openapi_extra=_RAW_BODY)
@requires("models.write")
async def send_piece(
    platform: ThePlatform, user: TheUser, request: Request, import_id: UUID, sha256: Sha256
) -> StoredPieceOfImport:
    """The body is the piece. Sending it again is harmless: a push that was cut goes on with what is missing."""
    await run_in_threadpool(importing.check_open, platform, user, import_id)
    async with received_body(request, platform, bytes_max=PIECE_BYTES_MAX) as received:
        store = partial(importing.store_piece, platform, user, import_id, sha256, received)
        piece = await platform.transfers.run(store)
    return StoredPieceOfImport(bytes=piece.bytes, sha256=piece.sha256)


@router.post("/v1/registry/imports/{import_id}/files/{path:path}", status_code=201)
@requires("models.write")
async def put_file_together(
    platform: ThePlatform, user: TheUser, request: Request, import_id: UUID, path: str, wanted: FileOfPieces
) -> ImportedFile:
    """Makes a file of pieces that the import has. It is read whole and checked, as one that is sent whole."""
    check_import_path(path)
    if wanted.bytes > platform.settings.model_file_bytes_max:
        raise too_large(platform.settings.model_file_bytes_max)
    folder = new_folder(platform.spool.folder)
    try:
        async with transferring(request, platform.stopping) as should_stop:
            fetch = partial(importing.put_together, platform, user, import_id, path, wanted, folder, should_stop)
            received = await platform.transfers.run(fetch)
        check = partial(importing.check, platform, path, received)
        await platform.readings.read(request, user.user_id, path, MODEL_REMEDY, check)
        return await run_in_threadpool(importing.add_of_pieces, platform, user, import_id, path, wanted)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@router.post(
    "/v1/registry/imports/{import_id}/complete", status_code=201, responses={200: {"model": ModelVersionDetail}}
)
@requires("models.write")
async def complete_import(
    platform: ThePlatform, user: TheUser, request: Request, response: Response, import_id: UUID
) -> ModelVersionDetail:
    """Registers the files as the next version. Asked again, it answers 200 with the version that was made.

    So it does where the newest version has exactly these files: what is pushed once more is no other version.
    """
    version, created = await importing.complete(platform, request, user, import_id)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/v1/registry/models/{version.owner}/{version.name}/versions/{version.version}"
    return version
