"""What the references of a spec meant at submit. A job reads these and nothing newer."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from jobspecs.manifest import ManifestFile


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


class FrozenRegistryModel(BaseModel):
    """One version of a registered model: its files below `prefix` in the object store."""

    model_config = ConfigDict(frozen=True)

    source: Literal["registry"] = "registry"
    version_id: UUID
    owner: str
    name: str
    version: int
    digest: str
    prefix: str
    files: tuple[ManifestFile, ...]


class FrozenHubModel(BaseModel):
    """A repository of a model hub at one commit."""

    model_config = ConfigDict(frozen=True)

    source: Literal["hub"] = "hub"
    repository: str
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")


FrozenModel = Annotated[FrozenRegistryModel | FrozenHubModel, Field(discriminator="source")]


class FrozenInputs(BaseModel):
    """Every input of a job."""

    model_config = ConfigDict(frozen=True)

    dataset: FrozenDataset
    model: FrozenModel
