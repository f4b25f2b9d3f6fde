"""The shapes of deployments. Where the engine listens, and its key, are nobody's business."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jobspecs.references import ModelReference
from storage.tables import DeploymentRow


class DeploymentRequest(BaseModel):
    """What is wanted. `model` is a reference into the registry; the deployment's own name when absent."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: ModelReference | None = None
    engine: Literal["embedded"] = "embedded"
    replicas: int = Field(default=1, ge=1, le=8)
    memory_gib: float | None = Field(
        default=None, gt=0, le=4096, description="main memory of all replicas; estimated when absent"
    )
    gpus: int = Field(default=0, ge=0, le=8, description="GPUs of all replicas, one each at most; 0: the CPU")

    @model_validator(mode="after")
    def _one_gpu_each(self) -> DeploymentRequest:
        if self.gpus > self.replicas:
            raise ValueError(f"gpus: a replica computes on one GPU, so {self.replicas} use no more than that many")
        return self


class Deployment(BaseModel):
    object: Literal["deployment"] = "deployment"
    name: str
    owner: str
    #: `owner/name@version` of the registry.
    model: str
    version: int
    engine: str
    replicas: int
    memory_bytes: int
    gpus: int
    #: `pending`, `starting`, `ready`, `failed`; `stopping` once it was undeployed.
    state: str
    reason: str | None
    message: str | None
    host: str | None
    created_at: datetime
    updated_at: datetime


class DeploymentList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Deployment]


def deployment_of(row: DeploymentRow) -> Deployment:
    version = row.model_version
    return Deployment(
        name=row.name,
        owner=row.owner.name,
        model=f"{version.model.owner.name}/{version.model.name}@{version.version}",
        version=version.version,
        engine=row.engine,
        replicas=row.replicas,
        memory_bytes=row.memory_bytes,
        gpus=row.gpus,
        state=row.state if row.wanted else "stopping",
        reason=row.reason,
        message=row.message,
        host=row.host,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
