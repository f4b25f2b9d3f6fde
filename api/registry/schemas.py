"""The shapes of the registry in answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from jobspecs.deploying import Deploying
from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.pieces import PIECES_MAX, Piece
from jobspecs.references import Name
from jobspecs.rights import Visibility
from storage.tables import ModelVersionRow


class ModelVersion(BaseModel):
    """One immutable version."""

    object: Literal["model.version"] = "model.version"
    #: `owner/name@version`.
    reference: str
    owner: str
    name: str
    version: int
    digest: str
    bytes: int
    #: What it serves, such as `text-classification`; null for a bare encoder.
    task: str | None
    metrics: dict[str, float]
    #: The job that made it; null for an import.
    job_id: UUID | None
    #: Who may read the model beside its owner.
    visibility: Visibility
    #: Of the model, as its owner says.
    description: str | None
    tags: list[str]
    #: As the owner says, else of the base or of the version's own card.
    license: str | None
    #: Lists, and names without a version, pass it over.
    archived: bool
    #: Whether it does in its engine what its source does; null: it was never compared. The cause: why not.
    verification_state: str | None
    verification_cause: str | None
    created_at: datetime


class ModelVersionDetail(ModelVersion):
    manifest: Manifest


class Model(BaseModel):
    """A model: versions, newest first, and the aliases that point at them."""

    object: Literal["model"] = "model"
    owner: str
    name: str
    visibility: Visibility
    description: str | None
    tags: list[str]
    #: What the owner says of all versions.
    license: str | None
    #: How whoever asks it first deploys it; null: nobody does.
    first_use: Deploying | None
    aliases: dict[str, int]
    versions: list[ModelVersion]


class ModelList(BaseModel):
    """The newest version of each model."""

    object: Literal["list"] = "list"
    data: list[ModelVersion]
    has_more: bool = False


#: Of one model.
TAGS_MAX = 64


class ModelChange(BaseModel):
    """What is to be changed; what is left out stays. Texts that are null are taken away."""

    model_config = ConfigDict(extra="forbid")

    visibility: Visibility | None = None
    description: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)] | None = None
    license: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+-]{0,199}$")] | None = Field(
        default=None, description="instead of what the versions are known to have"
    )
    tags_added: list[Name] = Field(default=[], max_length=TAGS_MAX)
    tags_removed: list[Name] = Field(default=[], max_length=TAGS_MAX)
    archived: bool | None = Field(default=None, description="all versions that there are now")
    first_use: Deploying | None = Field(
        default=None, description="how it is deployed by the first request that names it; null: it is not"
    )


class VersionChange(BaseModel):
    """What is to be changed; a version's content never is."""

    model_config = ConfigDict(extra="forbid")

    archived: bool


class ImportRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name


class Import(BaseModel):
    """Files are sent to `/v1/registry/imports/{id}/files/{path}`; then `/complete` makes them a version."""

    object: Literal["model.import"] = "model.import"
    id: UUID
    name: str


class Pieces(BaseModel):
    """Pieces of files that a client has: files are cut where the client likes, behind 5 MiB or more."""

    model_config = ConfigDict(extra="forbid")

    pieces: Annotated[list[Piece], Field(max_length=PIECES_MAX)]


class MissingPieces(BaseModel):
    """The sha256 of those that must be sent to `/v1/registry/imports/{id}/pieces/{sha256}`."""

    object: Literal["model.import.pieces"] = "model.import.pieces"
    missing: list[str]


class StoredPieceOfImport(Piece):
    object: Literal["model.import.piece"] = "model.import.piece"


class FileOfPieces(BaseModel):
    """A file that is its pieces, one after the other; each but the last has 5 MiB or more."""

    model_config = ConfigDict(extra="forbid")

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    pieces: Annotated[list[Piece], Field(min_length=1, max_length=PIECES_MAX)]


class FilePart(Piece):
    """Bytes of a file from `start` on; `url` gives just these, null where the object store can't be reached."""

    start: int
    url: str | None


class FileParts(ManifestFile):
    object: Literal["model.file.parts"] = "model.file.parts"
    parts: list[FilePart]


class LinkWish(BaseModel):
    model_config = ConfigDict(extra="forbid")

    path: str
    #: At most seven days.
    expires_s: int = Field(default=3600, ge=1, le=7 * 24 * 3600)


class Link(ManifestFile):
    """A file, and a URL with which anybody may fetch it until `expires_at`."""

    object: Literal["model.link"] = "model.link"
    url: str
    expires_at: datetime


class ImportedFile(ManifestFile):
    object: Literal["model.import.file"] = "model.import.file"


def version_of(row: ModelVersionRow) -> ModelVersion:
    return ModelVersion(**_fields(row, Manifest.model_validate(row.manifest)))


def detail_of(row: ModelVersionRow) -> ModelVersionDetail:
    manifest = Manifest.model_validate(row.manifest)
    return ModelVersionDetail(**_fields(row, manifest), manifest=manifest)


def _fields(row: ModelVersionRow, manifest: Manifest) -> dict[str, Any]:
    owner, name = row.model.owner.name, row.model.name
    return {
        "reference": f"{owner}/{name}@{row.version}",
        "owner": owner,
        "name": name,
        "version": row.version,
        "digest": row.digest,
        "bytes": row.bytes,
        "task": manifest.task,
        "metrics": manifest.metrics,
        "job_id": row.job_id,
        "visibility": row.model.visibility,
        "description": row.model.description,
        "tags": row.model.tags,
        "license": row.license_known,
        "archived": row.archived_at is not None,
        "verification_state": row.verification_state,
        "verification_cause": row.verification_cause,
        "created_at": row.created_at,
    }
