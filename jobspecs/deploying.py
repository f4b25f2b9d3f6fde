"""What can be said of how a model is served: by a request and by a step of a pipeline."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from jobspecs.engines import ENGINE_KINDS
from jobspecs.kinds.base import Section

#: Adapters that one deployment serves beside its model.
ADAPTERS_MAX = 16


class Deploying(Section):
    """Engine, replicas, and what they may take."""

    engine: str | None = Field(
        default=None,
        description=f"one of {', '.join(sorted(ENGINE_KINDS))}; chosen by the model and the hosts when absent",
    )
    replicas: int = Field(default=1, ge=1, le=8)
    hosts: int = Field(default=1, ge=1, le=8, description="hosts that the replicas are spread over")
    memory_gib: float | None = Field(
        default=None, gt=0, le=4096, description="main memory of all replicas; estimated when absent"
    )
    gpus: int = Field(default=0, ge=0, le=8, description="GPUs of all replicas, one each at most; 0: the CPU")
    idle_after_s: int | None = Field(
        default=None,
        ge=10,
        le=30 * 24 * 3600,
        description="seconds without a request after which it sleeps, until the next one wakes it; never when absent",
    )

    context_tokens: int | None = Field(
        default=None, ge=256, le=1 << 20, description="tokens of an answer with its prompt; the model's own when absent"
    )
    sequences: int | None = Field(
        default=None, ge=1, le=256, description="answers at once in each replica, for which memory is kept"
    )

    @field_validator("engine")
    @classmethod
    def _known(cls, engine: str | None) -> str | None:
        if engine is not None and engine not in ENGINE_KINDS:
            raise ValueError(f"there is no engine {engine[:50]!r}; there are: {', '.join(sorted(ENGINE_KINDS))}")
        return engine

    @model_validator(mode="after")
    def _one_gpu_each(self) -> Self:
        if self.gpus > self.replicas:
            raise ValueError(f"gpus: a replica computes on one GPU, so {self.replicas} use no more than that many")
        return self

    @model_validator(mode="after")
    def _one_replica_each(self) -> Self:
        if self.hosts > self.replicas:
            raise ValueError(f"hosts: {self.replicas} replicas are on no more than that many; ask for more replicas")
        return self
