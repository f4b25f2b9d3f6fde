"""The shapes of data sets in answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from jobspecs.openai_ids import openai_id
from jobspecs.profile import DatasetProfile
from jobspecs.purposes import Purpose
from jobspecs.rights import Visibility
from storage.tables import DatasetVersionRow


class DatasetVersion(BaseModel):
    """One immutable version: a file."""

    object: Literal["dataset.version"] = "dataset.version"
    #: `owner/name@version`.
    reference: str
    #: The same to OpenAI's clients: /v1/files.
    file_id: str
    purpose: Purpose
    owner: str
    name: str
    version: int
    file_name: str
    bytes: int
    sha256: str
    rows: int
    columns: list[str]
    #: How the file is read, as a line for people; `profile.dialect` has its parts. None: nothing had to be recognised.
    recognised: str | None = None
    #: What was taken for granted when it was pushed and may not be meant.
    notices: list[str] = []
    #: Where the rows came from, and their licence, as whoever pushed them said.
    origin: str | None = None
    license: str | None = None
    #: Who may read the data set beside its owner.
    visibility: Visibility
    created_at: datetime


class DatasetFile(BaseModel):
    """One of several files that are a version together, and how it is read."""

    name: str
    rows: int
    recognised: str | None = None


class DatasetVersionDetail(DatasetVersion):
    profile: DatasetProfile
    #: Empty where the version is one file.
    files: list[DatasetFile] = []


class Dataset(BaseModel):
    """A data set with its versions, newest first."""

    object: Literal["dataset"] = "dataset"
    owner: str
    name: str
    visibility: Visibility
    versions: list[DatasetVersion]


class DatasetChange(BaseModel):
    """What is to be changed; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    visibility: Visibility | None = None


class DatasetList(BaseModel):
    """The newest version of each data set."""

    object: Literal["list"] = "list"
    data: list[DatasetVersion]


class Preview(BaseModel):
    """The first rows."""

    columns: list[str]
    rows: list[dict[str, Any]]


def version_of(row: DatasetVersionRow) -> DatasetVersion:
    return DatasetVersion(**_fields(row))


def detail_of(row: DatasetVersionRow) -> DatasetVersionDetail:
    profile = DatasetProfile.model_validate(row.profile)
    files = [
        DatasetFile(name=part.name, rows=part.rows, recognised=str(part.dialect) if part.dialect else None)
        for part in (profile.dialect.files if profile.dialect else ())
    ]
    return DatasetVersionDetail(**_fields(row), profile=profile, files=files)


def _fields(row: DatasetVersionRow) -> dict[str, Any]:
    owner, name = row.dataset.owner.name, row.dataset.name
    dialect = row.how_to_read()
    return {
        "reference": f"{owner}/{name}@{row.version}",
        "file_id": openai_id("file", row.id),
        "purpose": row.purpose,
        "owner": owner,
        "name": name,
        "version": row.version,
        "file_name": row.file_name,
        "bytes": row.bytes,
        "sha256": row.sha256,
        "rows": row.rows,
        "columns": list(row.profile["columns"]),
        "recognised": str(dialect) if dialect is not None else None,
        "notices": list(row.profile.get("notices", ())),
        "origin": row.origin,
        "license": row.license,
        "visibility": row.dataset.visibility,
        "created_at": row.created_at,
    }
