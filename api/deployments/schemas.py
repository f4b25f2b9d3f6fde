"""The shapes of deployments. Where the engine listens, and its key, are nobody's business."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from jobspecs.engines import ENGINE_KINDS, ExternalEngine
from jobspecs.references import ModelReference
from storage.tables import DeploymentRow


class DeploymentRequest(BaseModel):
    """What is wanted. `model` is a reference into the registry; the deployment's own name when absent."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: ModelReference | None = None
    engine: str | None = Field(
        default=None,
        description=f"one of {', '.join(sorted(ENGINE_KINDS))}; chosen by the model and the hosts when absent",
    )
    external: ExternalEngine | None = Field(
        default=None, description="an engine that somebody else runs, instead of a model of the registry"
    )
    replicas: int = Field(default=1, ge=1, le=8)
    memory_gib: float | None = Field(
        default=None, gt=0, le=4096, description="main memory of all replicas; estimated when absent"
    )
    gpus: int = Field(default=0, ge=0, le=8, description="GPUs of all replicas, one each at most; 0: the CPU")

    @field_validator("engine")
    @classmethod
    def _known(cls, engine: str | None) -> str | None:
        if engine is not None and engine not in ENGINE_KINDS:
            raise ValueError(f"there is no engine {engine[:50]!r}; there are: {', '.join(sorted(ENGINE_KINDS))}")
        return engine

    @model_validator(mode="after")
    def _external_alone(self) -> DeploymentRequest:
        beside = sorted(self.model_fields_set - {"external"})
        if self.external is not None and beside:
            raise ValueError(f"{beside[0]}: what an engine of somebody else's uses is not ours to say; leave it out")
        return self

    @model_validator(mode="after")
    def _one_gpu_each(self) -> DeploymentRequest:
        if self.gpus > self.replicas:
            raise ValueError(f"gpus: a replica computes on one GPU, so {self.replicas} use no more than that many")
        return self


class External(BaseModel):
    """An engine that somebody else runs; its key is shown to nobody."""

    url: str
    model: str
    health_path: str
    metrics_path: str | None


class Load(BaseModel):
    """What the engine had in hand lately; `cache_share`: of its room for keys and values, where it tells."""

    running: int
    waiting: int
    cache_share: float | None


class Deployment(BaseModel):
    object: Literal["deployment"] = "deployment"
    name: str
    owner: str
    #: `owner/name@version` of the registry, or what an external engine calls its model.
    model: str
    version: int | None
    engine: str
    #: Why this engine.
    engine_reason: str | None
    external: External | None
    load: Load | None
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
        model=row.served,
        version=version.version if version is not None else None,
        engine=row.engine,
        engine_reason=row.engine_reason,
        external=_external(row.external),
        load=Load.model_validate(row.load) if row.load is not None else None,
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


def _external(stored: dict[str, Any] | None) -> External | None:
    return None if stored is None else External.model_validate({name: stored[name] for name in External.model_fields})
