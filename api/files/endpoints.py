"""/v1/files."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal, get_args

from fastapi import Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.authentication import TheUser, requires
from api.errors import ApiError
from api.files import service
from api.files.forms import received_form
from api.files.schemas import DeletedFile, File, FileList, SentPurpose
from api.inference.openai_route import openai_router
from api.parts import ThePlatform
from api.stored_files import FILE_RESPONSES, FileWish, send_stored
from jobspecs.purposes import Purpose

router = openai_router("files")

FileId = Annotated[str, Path(max_length=100, description="file-…")]
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": list(get_args(SentPurpose))},
                    },
                }
            }
        },
    }
}


@router.post("/v1/files", openapi_extra=_FORM)
@requires("datasets.write")
async def create_file(platform: ThePlatform, user: TheUser, request: Request) -> File:
    """Takes a file of rows to learn from (`fine-tune`), in any format of data sets, or of requests (`batch`)."""
    largest = platform.settings.dataset_bytes_max
    async with received_form(request, platform, "file", bytes_max=largest) as form:
        purpose = _purpose(form.fields)
        return await service.take(platform, request, user, form.file, form.file_name, purpose)


def _purpose(fields: dict[str, str]) -> SentPurpose:
    for name in fields:
        if name.startswith("expires_after"):
            raise ApiError(400, "Files don't expire by themselves here: delete them.", param="expires_after")
        if name != "purpose":
            raise ApiError(400, "Unknown field; there are: file, purpose.", param=name[:100])
    for purpose in get_args(SentPurpose):
        if fields.get("purpose") == purpose:
            known: SentPurpose = purpose
            return known
    raise ApiError(400, f"It must be one of {', '.join(get_args(SentPurpose))}.", param="purpose")


@router.get("/v1/files")
@requires("datasets.read")
def list_files(
    platform: ThePlatform,
    user: TheUser,
    purpose: Purpose | None = None,
    after: Annotated[str | None, Query(max_length=100, description="the last id of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    order: Literal["asc", "desc"] = "desc",
) -> FileList:
    """Your files by the time at which they came: every version of your data sets is one."""
    return service.list_files(platform, user, purpose=purpose, after=after, descending=order == "desc", limit=limit)


@router.get("/v1/files/{file_id}")
@requires("datasets.read")
def get_file(platform: ThePlatform, user: TheUser, file_id: FileId) -> File:
    return service.get(platform, user, file_id)


@router.get("/v1/files/{file_id}/content", response_class=Response, responses=FILE_RESPONSES)
@requires("datasets.read")
async def get_content(platform: ThePlatform, user: TheUser, request: Request, file_id: FileId) -> Response:
    """The file as it was sent, or made by a batch or job; verified while it is sent."""
    file = await run_in_threadpool(partial(service.stored, platform, user, file_id))
    wish = FileWish(redirect=False, range_=request.headers.get("range"), if_range=request.headers.get("if-range"))
    return await send_stored(platform, request, wish, file, moves=False)


@router.delete("/v1/files/{file_id}")
@requires("datasets.delete")
def delete_file(platform: ThePlatform, user: TheUser, file_id: FileId) -> DeletedFile:
    """Deletes it; 409 while a job or batch that has not ended reads it."""
    return service.delete(platform, user, file_id)
