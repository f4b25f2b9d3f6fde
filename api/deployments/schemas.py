"""The shapes of deployments. Where the engine listens, and its key, are nobody's business."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from jobspecs.deploying import Deploying
from jobspecs.engines import ExternalEngine
from jobspecs.references import ModelReference
from storage.tables import DeploymentRow


class DeploymentRequest(Deploying):
    """What is wanted. `model` is a reference into the registry; the deployment's own name when absent."""

    model: ModelReference | None = None
    external: ExternalEngine | None = Field(
        default=None, description="an engine that somebody else runs, instead of a model of the registry"
    )

    @model_validator(mode="after")
    def _external_alone(self) -> DeploymentRequest:
        beside = sorted(self.model_fields_set - {"external"})
        if self.external is not None and beside:
            raise ValueError(f"{beside[0]}: what an engine of somebody else's uses is not ours to say; leave it out")
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


class HostShare(BaseModel):
    """What one host serves of a deployment; without a name, what no host has taken yet."""

    host: str | None
    replicas: int
    state: str
    reason: str | None
    message: str | None
    #: The host whose engines answer until those of `host` do.
    moving_from: str | None


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
    #: The first of `hosts`.
    host: str | None
    hosts: list[HostShare]
    created_at: datetime
    updated_at: datetime


class DeploymentList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Deployment]


#: The first of these that a share is in is the state of the deployment.
_BEST_FIRST = ("ready", "starting", "pending", "failed")


def deployment_of(shares: Sequence[DeploymentRow]) -> Deployment:
    """`shares`: at least the first."""
    row, version = shares[0], shares[0].model_version
    wanted = [share for share in shares if share.wanted] or [row]
    best = min(wanted, key=lambda share: _BEST_FIRST.index(share.state))
    return Deployment(
        name=row.name,
        owner=row.owner.name,
        model=row.served,
        version=version.version if version is not None else None,
        engine=row.engine,
        engine_reason=row.engine_reason,
        external=_external(row.external),
        load=_load([Load.model_validate(share.load) for share in wanted if share.load is not None]),
        replicas=sum(share.replicas for share in wanted),
        memory_bytes=sum(share.memory_bytes for share in wanted),
        gpus=sum(share.gpus for share in wanted),
        state=best.state if row.wanted else "stopping",
        reason=best.reason,
        message=best.message,
        host=row.host,
        hosts=[_host_share(share) for share in wanted],
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _host_share(row: DeploymentRow) -> HostShare:
    told = {name: getattr(row, name) for name in HostShare.model_fields}
    return HostShare.model_validate(told)


def _load(loads: Sequence[Load]) -> Load | None:
    """Of all together; the fullest one's cache."""
    if not loads:
        return None
    caches = [load.cache_share for load in loads if load.cache_share is not None]
    running, waiting = sum(load.running for load in loads), sum(load.waiting for load in loads)
    return Load(running=running, waiting=waiting, cache_share=max(caches, default=None))


def _external(stored: dict[str, Any] | None) -> External | None:
    return None if stored is None else External.model_validate({name: stored[name] for name in External.model_fields})
