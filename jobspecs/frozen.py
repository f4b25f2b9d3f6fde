"""What the references of a spec meant at submit. A job reads these and nothing newer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from jobspecs.dialect import Dialect, named_columns
from jobspecs.estimate import Estimate
from jobspecs.kinds.base import BASE_ROLE
from jobspecs.manifest import DatasetOrigin, ManifestFile, ModelOrigin
from jobspecs.pieces import StoredFile, StoredPiece, stored_below
from jobspecs.provenance import UNKNOWN, Provenance


class FrozenDataset(BaseModel):
    """One version of a data set: a single stored file."""

    model_config = ConfigDict(frozen=True)

    version_id: UUID
    owner: str
    name: str
    version: int
    #: The file name it was pushed under; its suffix tells the format.
    file_name: str
    key: str
    bytes: int
    sha256: str
    #: Names of the columns of a file that has no header of its own, for jobs from before `dialect` was kept.
    header: tuple[str, ...] | None = None
    #: How the file is read: what was told and recognised when it was pushed.
    dialect: Dialect | None = None
    #: Where its rows came from, as far as somebody said so.
    provenance: Provenance = UNKNOWN

    def how_to_read(self) -> Dialect | None:
        """What is known of its text; the rest has to be recognised."""
        return self.dialect or named_columns(self.header)

    @property
    def reference(self) -> str:
        """`owner/name@version`."""
        return f"{self.owner}/{self.name}@{self.version}"

    @property
    def origin(self) -> DatasetOrigin:
        """How an artifact names the data set that it was made from."""
        said = self.provenance
        return DatasetOrigin(reference=self.reference, sha256=self.sha256, origin=said.origin, license=said.license)


class FrozenRegistryModel(BaseModel):
    """One version of a registered model."""

    model_config = ConfigDict(frozen=True)

    source: Literal["registry"] = "registry"
    version_id: UUID
    owner: str
    name: str
    version: int
    digest: str
    #: Of a version from before there were pieces: its files are the objects `<prefix>/<path>`.
    prefix: str | None = None
    files: tuple[ManifestFile, ...]
    #: Path -> what the file consists of; empty with a prefix.
    pieces: dict[str, tuple[StoredPiece, ...]] = Field(default_factory=dict)

    @property
    def stored(self) -> tuple[StoredFile, ...]:
        """The files and where their bytes are."""
        if self.prefix is not None:
            return stored_below(self.prefix, self.files)
        return tuple(StoredFile(**file.model_dump(), pieces=self.pieces[file.path]) for file in self.files)


class FrozenHubModel(BaseModel):
    """A repository of a model hub at one commit."""

    model_config = ConfigDict(frozen=True)

    source: Literal["hub"] = "hub"
    repository: str
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")
    #: As its card names it.
    license: str | None = None
    #: The GGUF that is taken of it; None: its safetensors, with configuration and tokenizer.
    gguf: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*\.gguf$")


def origin_of(model: FrozenRegistryModel | FrozenHubModel) -> ModelOrigin:
    """How an artifact names the model that it was made from."""
    if isinstance(model, FrozenHubModel):
        return ModelOrigin(reference=f"hub:{model.repository}@{model.revision}")
    return ModelOrigin(reference=f"{model.owner}/{model.name}@{model.version}", digest=model.digest)


FrozenModel = Annotated[FrozenRegistryModel | FrozenHubModel, Field(discriminator="source")]


class PipelineOrigin(BaseModel):
    """The step of a pipeline that a job is."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    name: str
    step: str


class SweepOrigin(BaseModel):
    """The trial of a sweep that a job is; `trial`: 0 of the job that confirms the winner."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    name: str
    trial: int


class ScheduleOrigin(BaseModel):
    """The time of a schedule at which a job, or the pipeline whose step it is, was submitted."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    name: str
    due_at: datetime


class FrozenInputs(BaseModel):
    """Every input of a job."""

    model_config = ConfigDict(frozen=True)

    dataset: FrozenDataset | None = None
    #: A data set of its own for the rows of `validation`.
    held_out: FrozenDataset | None = None
    #: One whose rows judge in its place.
    test: FrozenDataset | None = None
    model: FrozenModel | None = None
    #: Models in other roles, and the bases of adapters: role -> model.
    models: dict[str, FrozenModel] = Field(default_factory=dict)
    #: Whether the whole data set was checked at submit; otherwise the job's first stage does it.
    checked: bool = False
    #: What was estimated from these inputs.
    estimate: Estimate | None = None
    #: None for a job that was submitted by itself, and for one that somebody submitted.
    pipeline: PipelineOrigin | None = None
    sweep: SweepOrigin | None = None
    schedule: ScheduleOrigin | None = None

    def datasets(self) -> tuple[FrozenDataset, ...]:
        """All data sets, the one that trains first."""
        return tuple(self.datasets_by_role().values())

    def datasets_by_role(self) -> dict[str, FrozenDataset]:
        """All data sets, by the fields of this document that have one."""
        found = {"dataset": self.dataset, "held_out": self.held_out, "test": self.test}
        return {role: dataset for role, dataset in found.items() if dataset is not None}

    def by_role(self) -> dict[str, FrozenModel]:
        """All models, the one that the job starts from in BASE_ROLE."""
        return self.models if self.model is None else {BASE_ROLE: self.model, **self.models}
