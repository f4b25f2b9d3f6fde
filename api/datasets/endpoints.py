"""/v1/datasets."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.authentication import TheUser, guarded_router, requires
from api.datasets import chats, deleting, service
from api.datasets.chat_schemas import ChatPreview, ChatQuestion
from api.datasets.schemas import Dataset, DatasetChange, DatasetList, DatasetVersionDetail, Preview
from api.datasets.taking import Pushed, taken
from api.datasets.telling import ToldDialect, told_provenance
from api.foreign_files import is_large
from api.parts import ThePlatform
from api.references.names import Shared, TheNamed
from api.references.uses import Deleted, DryRun
from api.stored_files import FILE_RESPONSES, FileWish, send_stored
from api.streaming import received_body
from jobspecs.provenance import Provenance
from jobspecs.references import Reference

router = guarded_router("datasets")

_PREVIEW_REMEDY = "Send the data set in several parts."

Version = Annotated[str, Path(pattern=r"^([1-9]\d{0,8}|latest)$", description="a number, or latest")]

_RAW_BODY: dict[str, Any] = {
    "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.put(
    "/v1/datasets/{name:owned}",
    status_code=201,
    responses={200: {"model": DatasetVersionDetail}},
    openapi_extra=_RAW_BODY,
)
@requires("datasets.write")
async def push_dataset(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    response: Response,
    named: TheNamed,
    file_name: Annotated[str, Query(min_length=1, description="its suffix tells the format: headlines.csv.gz")],
    told: ToldDialect,
    provenance: Annotated[Provenance, Depends(told_provenance)],
) -> DatasetVersionDetail:
    """The body is the file: CSV, TSV, TXT, CoNLL, JSONL, JSON (each also .gz or .xz), XLSX, ODS or Parquet.

    Content that is there already gives its version with status 200. `X-Content-SHA256` is checked when given.
    """
    file_name, table = service.checked_file_name(file_name, told)
    maker = await run_in_threadpool(service.maker, platform, user, named)
    async with received_body(request, platform, bytes_max=platform.settings.dataset_bytes_max) as received:
        pushed = Pushed(maker, named.name, file_name, table, received, provenance)
        version, created = await taken(platform, request, user, pushed)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/v1/datasets/{version.owner}/{version.name}/versions/{version.version}"
    return version


@router.get("/v1/datasets")
@requires("datasets.read")
def list_datasets(platform: ThePlatform, user: TheUser, shared: Shared = False) -> DatasetList:
    """The newest version of each of your data sets."""
    return service.list_datasets(platform, user, shared=shared)


@router.get("/v1/datasets/{name:owned}")
@requires("datasets.read")
def get_dataset(platform: ThePlatform, user: TheUser, named: TheNamed) -> Dataset:
    """A data set and its versions."""
    return service.get_dataset(platform, user, named)


@router.patch("/v1/datasets/{name:owned}")
@requires("datasets.write")
def change_dataset(platform: ThePlatform, user: TheUser, named: TheNamed, change: DatasetChange) -> Dataset:
    """Changes who may read it. Taken back, it stays with jobs that use it already."""
    return service.change(platform, user, named, change)


@router.get("/v1/datasets/{name:owned}/versions/{version}")
@requires("datasets.read")
def get_version(platform: ThePlatform, user: TheUser, named: TheNamed, version: Version) -> DatasetVersionDetail:
    """One version with the profile of its columns."""
    return service.get_version(platform, user, _at(named, version))


_FILE = "/v1/datasets/{name:owned}/versions/{version}/file"


@router.head(_FILE, response_class=Response, include_in_schema=False)
@router.get(_FILE, response_class=Response, responses=FILE_RESPONSES)
@requires("datasets.read")
async def get_file(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    named: TheNamed,
    version: Version,
    wish: Annotated[FileWish, Depends()],
) -> Response:
    """The stored file as it was pushed, or made by a job. `ETag` and `X-Content-SHA256` are its sha256.

    `Range` (one range) resumes a download; who asks for ranges must check the sum. A whole file is verified while it
    is sent: a damaged one never arrives complete.
    """
    file = await run_in_threadpool(service.stored_file, platform, user, _at(named, version))
    return await send_stored(platform, request, wish, file, moves=version == "latest")


@router.delete("/v1/datasets/{name:owned}")
@requires("datasets.delete")
def delete_dataset(platform: ThePlatform, user: TheUser, named: TheNamed, dry_run: DryRun = False) -> Deleted:
    """Deletes all versions; 409, and nothing is deleted, while a job that has not ended reads one."""
    return deleting.delete(platform, user, named, dry_run=dry_run)


@router.delete("/v1/datasets/{name:owned}/versions/{version}")
@requires("datasets.delete")
def delete_version(
    platform: ThePlatform,
    user: TheUser,
    named: TheNamed,
    version: Annotated[int, Path(ge=1, lt=2**31)],
    dry_run: DryRun = False,
) -> Deleted:
    """Deletes one version, whose number is never given again; 409 while a job that has not ended reads it."""
    return deleting.delete(platform, user, _at(named, str(version)), dry_run=dry_run)


@router.get("/v1/datasets/{name:owned}/versions/{version}/preview")
@requires("datasets.read")
async def preview(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    named: TheNamed,
    version: Version,
    as_chat: Annotated[ChatQuestion, Depends()],
    shown_as: Annotated[Literal["table", "chat"], Query(alias="as")] = "table",
    rows: Annotated[int | None, Query(ge=1, le=100, description="10 unless told, of a chat 3")] = None,
) -> Preview | ChatPreview:
    """The first rows: as they are, or as conversations the way a model will see them."""
    chat = shown_as == "chat"

    def fetch(folder: FilePath) -> service.Beginning:
        objects = platform.objects.within(service.PREVIEW_SECONDS_MAX)
        if chat and as_chat.model:
            chats.fetch_model(platform, objects, user, as_chat.model, folder)
        return service.fetch_beginning(platform, objects, user, _at(named, version), folder)

    # Whoever waits for the store holds no place for reading.
    with tempfile.TemporaryDirectory(prefix="preview-", dir=platform.spool.folder) as name:
        beginning = await platform.lookups.run(partial(fetch, FilePath(name)))
        model = FilePath(name) if chat and as_chat.model else None
        shown = (
            partial(chats.preview, platform, beginning, model, as_chat, rows)
            if chat
            else partial(service.preview, platform, beginning, rows)
        )
        # Loading a tokenizer alone takes seconds.
        large = model is not None or is_large(beginning.limits)
        return await platform.readings.read(
            request, user.user_id, str(named), _PREVIEW_REMEDY, shown, large=large, limits=beginning.limits
        )


def _at(named: Reference, version: str) -> Reference:
    return named.model_copy(update={"version": None if version == "latest" else int(version)})
