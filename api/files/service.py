"""A file is a version of a data set: `file-<the version's id>`. What a file is for makes no other thing of it."""

from __future__ import annotations

import re
from functools import partial
from pathlib import PurePosixPath
from uuid import UUID

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from api.datasets import deleting, service
from api.datasets.schemas import version_of
from api.datasets.taking import Pushed, taken
from api.errors import ApiError
from api.files.schemas import DeletedFile, File, FileList, file_of
from api.foreign_files import is_large, table_limits, table_remedy
from api.parts import Parts
from api.streaming import Received
from corpus.confinement.process import Limits
from jobspecs.batches import FILE_BYTES_MAX
from jobspecs.manifest import ManifestFile
from jobspecs.openai_ids import key_of, openai_id
from jobspecs.pieces import StoredFile
from jobspecs.problems import InvalidInput, Problem
from jobspecs.purposes import Purpose
from jobspecs.references import Reference
from jobspecs.rights import Principal
from storage.database import UnitOfWork
from storage.tables import DatasetVersionRow
from storage.tabular import TableFormat

_NAME_CHARS_MAX = 100
#: What a name begins with: data sets that were pushed by name get no versions by files of the same name.
_NAME_PREFIXES: dict[Purpose, str] = {"fine-tune": "file-", "batch": "batch-", "batch_output": "batch-"}


def bytes_max(parts: Parts, purpose: Purpose) -> int:
    limit = parts.settings.dataset_bytes_max
    return limit if purpose == "fine-tune" else min(limit, FILE_BYTES_MAX)


def named(file_name: str) -> str:
    """What a file without an ending is called: OpenAI's files are JSON Lines."""
    name = PurePosixPath(file_name).name or "upload"
    return name if PurePosixPath(name).suffix else f"{name}.jsonl"


async def take(
    parts: Parts, request: Request, user: Principal, received: Received, file_name: str, purpose: Purpose
) -> File:
    """Reads all of it, and keeps it. Raises ApiError 400 with the line that is wrong, and 413."""
    if received.bytes > bytes_max(parts, purpose):
        raise ApiError(413, f"A file for {purpose} may have {bytes_max(parts, purpose):,} bytes.", param="file")
    try:
        file_name, table = service.checked_file_name(named(file_name))
        if purpose == "batch":
            await _check_requests(parts, request, user, received, file_name, table)
        name = dataset_name(file_name, purpose)
        owner_id = await run_in_threadpool(service.maker, parts, user, Reference(name=name))
        pushed = Pushed(owner_id, name, file_name, table, received, purpose=purpose)
        version, _ = await taken(parts, request, user, pushed)
    except InvalidInput as error:
        raise refused(error) from error
    return file_of(version)


def refused(error: InvalidInput, param: str = "file") -> ApiError:
    """400, as OpenAI has it: the field of the form, and the line in the words of the message and in `problems`."""
    message = "; ".join(str(problem) for problem in error.problems[:3])
    return ApiError(400, message, code="invalid_file", param=param, problems=error.problems)


async def _check_requests(
    parts: Parts, request: Request, user: Principal, received: Received, file_name: str, table: TableFormat
) -> None:
    """Raises InvalidInput for lines that are no requests."""
    if table.kind != "jsonl" or table.compression is not None:
        message = "requests come as JSON Lines."
        raise InvalidInput([Problem(file=file_name, message=message, remedy="Send a file named NAME.jsonl.")])
    limits = requests_limits(parts, received.bytes, table)
    arguments = {"path": received.path.resolve(), "file_name": file_name}
    work = partial(parts.confinement.run, "batch_requests", arguments, limits)
    await parts.readings.read(
        request, user.user_id, file_name, table_remedy(table), work, large=is_large(limits), limits=limits
    )


def requests_limits(parts: Parts, stored_bytes: int, table: TableFormat) -> Limits:
    return table_limits(stored_bytes, table, parts.settings)


def dataset_name(file_name: str, purpose: Purpose) -> str:
    """`file-train` for train.jsonl: versions of one data set are files of one name."""
    stem = file_name.partition(".")[0]
    return _NAME_PREFIXES[purpose] + (re.sub(r"[^A-Za-z0-9._-]+", "-", stem)[:_NAME_CHARS_MAX].strip("-") or "upload")


def find(work: UnitOfWork, user: Principal, file_id: str, *, param: str | None = None) -> DatasetVersionRow:
    """Raises ApiError 404; 400 where it is `param` of a request that names no file."""
    key = key_of("file", file_id)
    row = work.datasets.find_by_id(user.reach("datasets.read"), key) if key is not None else None
    if row is None:
        message = f"There is no file {file_id[:100]}. `client.files.list()` names yours."
        raise ApiError(404 if param is None else 400, message, code="file_not_found", param=param)
    return row


def get(parts: Parts, user: Principal, file_id: str) -> File:
    with parts.database.unit_of_work() as work:
        return file_of(version_of(find(work, user, file_id)))


def list_files(
    parts: Parts, user: Principal, *, purpose: Purpose | None, after: str | None, descending: bool, limit: int
) -> FileList:
    """The user's own."""
    reach = user.reach("datasets.read").own
    with parts.database.unit_of_work() as work:
        behind = find(work, user, after, param="after") if after else None
        rows = work.datasets.page(reach, purpose=purpose, after=behind, descending=descending, limit=limit + 1)
    data = [file_of(version_of(row)) for row in rows[:limit]]
    ends = (data[0].id, data[-1].id) if data else (None, None)
    return FileList(data=data, first_id=ends[0], last_id=ends[1], has_more=len(rows) > limit)


def stored(parts: Parts, user: Principal, file_id: str) -> StoredFile:
    with parts.database.unit_of_work() as work:
        row = find(work, user, file_id)
    return stored_of(row)


def stored_of(row: DatasetVersionRow) -> StoredFile:
    return StoredFile.whole(row.key, ManifestFile(path=row.file_name, bytes=row.bytes, sha256=row.sha256))


def delete(parts: Parts, user: Principal, file_id: str) -> DeletedFile:
    """Raises ApiError 404; 409 while a job or a batch reads it."""
    with parts.database.unit_of_work() as work:
        row = find(work, user, file_id)
        version = Reference(owner=row.dataset.owner.name, name=row.dataset.name, version=row.version)
    deleting.delete(parts, user, version, dry_run=False)
    return DeletedFile(id=file_id)


def id_of(version_id: UUID | None) -> str | None:
    return openai_id("file", version_id) if version_id is not None else None
