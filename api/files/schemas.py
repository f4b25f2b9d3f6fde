"""The shapes of files and uploads, as OpenAI has them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.datasets.schemas import DatasetVersion
from jobspecs.openai_ids import openai_id
from jobspecs.purposes import Purpose
from storage.tables import UploadPartRow, UploadRow

#: For which files may be sent; `batch_output` is for those that batches make.
SentPurpose = Literal["fine-tune", "batch"]


class File(BaseModel):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    #: Seconds since 1970, here and below.
    created_at: int
    filename: str
    purpose: Purpose
    #: A file is read before it is taken: there is none with errors, and none that is not done yet.
    status: Literal["processed"] = "processed"
    expires_at: int | None = None
    status_details: str | None = None
    #: What it is beside: `owner/name@version` of a data set.
    dataset: str


class FileList(BaseModel):
    object: Literal["list"] = "list"
    data: list[File]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedFile(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class UploadRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    filename: str = Field(min_length=1, max_length=255)
    purpose: SentPurpose
    bytes: int = Field(ge=1, description="of the whole file")
    mime_type: str = Field(default="", max_length=255, description="not read: the file's name tells its format")


class UploadCompletion(BaseModel):
    model_config = ConfigDict(extra="forbid")

    part_ids: list[Annotated[str, Field(max_length=64)]] = Field(
        min_length=1, max_length=1000, description="in their order"
    )
    md5: str | None = Field(default=None, pattern="^[0-9a-fA-F]{32}$", description="of the whole file")


class Upload(BaseModel):
    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Purpose
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: File | None = None


class UploadPart(BaseModel):
    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


def file_of(version: DatasetVersion) -> File:
    return File(
        id=version.file_id,
        bytes=version.bytes,
        created_at=int(version.created_at.timestamp()),
        filename=version.file_name,
        purpose=version.purpose,
        dataset=version.reference,
    )


def upload_of(
    row: UploadRow, status: Literal["pending", "completed", "cancelled", "expired"], file: File | None = None
) -> Upload:
    return Upload(
        id=openai_id("upload", row.id),
        bytes=row.bytes,
        created_at=int(row.created_at.timestamp()),
        expires_at=int(row.expires_at.timestamp()),
        filename=row.file_name,
        purpose=row.purpose,
        status=status,
        file=file,
    )


def part_of(row: UploadPartRow) -> UploadPart:
    return UploadPart(
        id=openai_id("part", row.id),
        created_at=int(row.created_at.timestamp()),
        upload_id=openai_id("upload", row.upload_id),
    )
