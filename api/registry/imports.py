"""/v1/registry/imports: a model from elsewhere becomes a version. Nobody sees it before it is complete."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool

from api.authentication import TheUser, guarded_router, requires
from api.foreign_files import MODEL_REMEDY, transferring
from api.parts import ThePlatform
from api.registry import importing
from api.registry.imported_files import check_import_path
from api.registry.schemas import Import, ImportedFile, ImportRequest, ModelVersionDetail
from api.streaming import received_body

router = guarded_router("registry")

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


@router.post(
    "/v1/registry/imports/{import_id}/complete", status_code=201, responses={200: {"model": ModelVersionDetail}}
)
@requires("models.write")
async def complete_import(
    platform: ThePlatform, user: TheUser, request: Request, response: Response, import_id: UUID
) -> ModelVersionDetail:
    """Registers the files as the next version. Asked again, it answers 200 with the version that was made."""
    version, created = await importing.complete(platform, request, user, import_id)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/v1/registry/models/{version.owner}/{version.name}/versions/{version.version}"
    return version
