"""The shapes of deployments. Where the engine listens, and its key, are nobody's business."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from statistics import median
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.references.places import WAITS_FOR_ROOM
from jobspecs.deploying import ADAPTERS_MAX, Deploying
from jobspecs.engines import ExternalEngine
from jobspecs.references import ModelReference
from storage.repositories.serving.answers import quantile_s
from storage.tables import AnswerCountRow, DeploymentRow


class DeploymentRequest(Deploying):
    """What is wanted. `model` is a reference into the registry; the deployment's own name when absent."""

    model: ModelReference | None = None
    external: ExternalEngine | None = Field(
        default=None, description="an engine that somebody else runs, instead of a model of the registry"
    )
    adapters: list[ModelReference] = Field(
        default_factory=list,
        max_length=ADAPTERS_MAX,
        description="LoRA adapters of this model, served beside it over its weights; requests name one as their model",
    )
    traffic_percent: int | None = Field(
        default=None,
        ge=0,
        le=100,
        description="serve it beside what is deployed, as its candidate, which gets so many of 100 requests",
    )

    @model_validator(mode="after")
    def _external_alone(self) -> DeploymentRequest:
        beside = sorted(self.model_fields_set - {"external"})
        if self.external is not None and beside:
            raise ValueError(f"{beside[0]}: what an engine of somebody else's uses is not ours to say; leave it out")
        return self

    @model_validator(mode="after")
    def _candidates_sleep_along(self) -> DeploymentRequest:
        if self.traffic_percent is not None and self.idle_after_s is not None:
            raise ValueError("idle_after_s: a candidate sleeps and wakes with its deployment; leave it out")
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


class TakenMemory(BaseModel):
    """Of one kind of memory, in bytes."""

    weights_bytes: int
    kv_cache_bytes: int
    overhead_bytes: int


class ReplicaMemory(BaseModel):
    """What each replica takes; of its GPU only where it has one, of main memory in any case."""

    main: TakenMemory
    gpu: TakenMemory | None
    #: Keys and values are for so many answers of so many tokens at once; null for models that keep none.
    context_tokens: int | None
    sequences: int | None


class HostShare(BaseModel):
    """What one host serves of a deployment; without a name, what no host has taken yet."""

    host: str | None
    replicas: int
    state: str
    reason: str | None
    message: str | None
    #: The host whose engines answer until those of `host` do.
    moving_from: str | None


class TrafficRequest(BaseModel):
    """What the candidate of a deployment gets from now on."""

    model_config = ConfigDict(extra="forbid")

    percent: int = Field(ge=0, le=100)


class Answers(BaseModel):
    """How one version has answered since it was deployed, or since there has been a candidate beside it."""

    requests: int
    #: Those that it did not answer, or broke off; what it refused is no error.
    errors: int
    error_rate: float | None
    #: Seconds until it had answered, or a stream had begun, of those that it answered; to a third.
    p50_s: float | None
    p95_s: float | None


class Candidate(BaseModel):
    """A version that takes a share of a deployment's requests, when it is ready."""

    #: `owner/name@version`.
    model: str
    version: int | None
    traffic_percent: int
    engine: str
    replicas: int
    memory_bytes: int
    gpus: int
    #: `pending`, `starting`, `ready`, `failed`.
    state: str
    reason: str | None
    message: str | None
    hosts: list[HostShare]
    answers: Answers


class Deployment(BaseModel):
    object: Literal["deployment"] = "deployment"
    name: str
    owner: str
    #: `owner/name@version` of the registry, or what an external engine calls its model.
    model: str
    version: int | None
    #: Served beside the model: `owner/name@version` each, by which requests ask them.
    adapters: list[str]
    engine: str
    #: Why this engine.
    engine_reason: str | None
    external: External | None
    load: Load | None
    replicas: int
    memory_bytes: int
    gpus: int
    #: Of each replica; null where nobody has reckoned it.
    memory: ReplicaMemory | None
    idle_after_s: int | None
    #: Of those that sleep by themselves, some seconds coarse.
    last_used_at: datetime | None
    #: How long its start takes, by the last ones.
    expected_start_s: float | None
    #: `pending`, `starting`, `ready`, `asleep`, `failed`; `stopping` once it was undeployed.
    state: str
    reason: str | None
    message: str | None
    #: The first of `hosts`.
    host: str | None
    hosts: list[HostShare]
    answers: Answers
    candidate: Candidate | None
    created_at: datetime
    updated_at: datetime


class DeploymentList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Deployment]


#: The first of these that a share is in is the state of the deployment.
_BEST_FIRST = ("ready", "starting", "pending", "asleep", "failed")


def deployment_of(
    shares: Sequence[DeploymentRow],
    candidate: Sequence[DeploymentRow] = (),
    answered: Sequence[AnswerCountRow] = (),
    waits: str | None = None,
) -> Deployment:
    """`shares`: at least the first. `answered`: what was counted of both. `waits`: why no host has a share."""
    row, version = shares[0], shares[0].model_version
    wanted = [share for share in shares if share.wanted] or [row]
    best = _best(wanted)
    return Deployment(
        name=row.name,
        owner=row.owner.name,
        model=row.served,
        version=version.version if version is not None else None,
        adapters=[adapter.full_name for adapter in row.adapters],
        engine=row.engine,
        engine_reason=row.engine_reason,
        external=_external(row.external),
        load=_load([Load.model_validate(share.load) for share in wanted if share.load is not None]),
        replicas=sum(share.replicas for share in wanted),
        memory_bytes=sum(share.memory_bytes for share in wanted),
        gpus=sum(share.gpus for share in wanted),
        memory=ReplicaMemory.model_validate(row.memory) if row.memory is not None else None,
        idle_after_s=row.idle_after_s,
        last_used_at=row.last_used_at,
        expected_start_s=median(row.start_seconds) if row.start_seconds else None,
        state=best.state if row.wanted else "stopping",
        reason=best.reason or (WAITS_FOR_ROOM if waits else None),
        message=best.message or waits,
        host=row.host,
        hosts=[_host_share(share) for share in wanted],
        answers=_answers([count for count in answered if count.model == row.served]),
        candidate=_candidate(candidate, answered) if candidate else None,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _candidate(shares: Sequence[DeploymentRow], answered: Sequence[AnswerCountRow]) -> Candidate:
    row, best = shares[0], _best(shares)
    return Candidate(
        model=row.served,
        version=row.model_version.version if row.model_version is not None else None,
        traffic_percent=row.traffic_percent or 0,
        engine=row.engine,
        replicas=sum(share.replicas for share in shares),
        memory_bytes=sum(share.memory_bytes for share in shares),
        gpus=sum(share.gpus for share in shares),
        state=best.state,
        reason=best.reason,
        message=best.message,
        hosts=[_host_share(share) for share in shares],
        answers=_answers([count for count in answered if count.model == row.served]),
    )


def _answers(counts: Sequence[AnswerCountRow]) -> Answers:
    requests = sum(count.count for count in counts)
    errors = sum(count.count for count in counts if count.failed)
    answered = {count.seconds_max: count.count for count in counts if not count.failed}
    return Answers(
        requests=requests,
        errors=errors,
        error_rate=errors / requests if requests else None,
        p50_s=quantile_s(answered, 0.5),
        p95_s=quantile_s(answered, 0.95),
    )


def _best(shares: Sequence[DeploymentRow]) -> DeploymentRow:
    return min(shares, key=lambda share: _BEST_FIRST.index(share.state))


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
