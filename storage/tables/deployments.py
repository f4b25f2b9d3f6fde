"""Deployments: which model should be served, and what the inference workers have made of it.

One that is served on several hosts has several rows of its owner and name, its *shares*. Each is claimed and served by
itself; what they have in common is what is wanted.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Float, ForeignKey, UniqueConstraint, false, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TEXT
from sqlalchemy.orm import Mapped, mapped_column, relationship

from storage.tables.base import Base, CreatedAt, UuidKey
from storage.tables.models import ModelVersionRow
from storage.tables.owners import OwnerRow


class DeploymentRow(Base):
    __tablename__ = "deployments"
    __table_args__ = (UniqueConstraint("owner_id", "name", "share"),)

    id: Mapped[UuidKey]
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id"))
    #: The name under which it is called; the model's name unless another was given.
    name: Mapped[str]
    #: 0, 1, … of a deployment on several hosts; one on a single host has share 0 alone.
    share: Mapped[int] = mapped_column(default=0, server_default="0")
    #: None for an engine that somebody else runs: what it serves is their business.
    model_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_versions.id"))
    #: `jobspecs.engines.ExternalEngine`, its key included; then there is no model version.
    external: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    #: What it serves; null in rows of older code, which served the task of the manifest.
    task: Mapped[str | None]
    engine: Mapped[str]
    #: Why this engine, for people.
    engine_reason: Mapped[str | None]
    #: Of this share.
    replicas: Mapped[int]
    #: Main memory of all replicas of this share.
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    gpus: Mapped[int] = mapped_column(default=0, server_default="0")
    #: Memory of each GPU that it needs.
    gpu_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    #: What each replica takes: `scheduling.estimates.engine_memory.ServingMemory`; null where nobody has reckoned.
    memory: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    #: Tokens of one answer with its prompt, and answers at once; null: as the engine likes.
    context_tokens: Mapped[int | None]
    sequences: Mapped[int | None]
    #: Those that it was given, by the names of its host (`HostConfig.gpu_ids`); chosen under the host's lock.
    gpu_ids: Mapped[list[str]] = mapped_column(ARRAY(TEXT), default=list, server_default=text("'{}'"))
    #: Of a candidate (`storage.repositories.serving.candidates`): how many of 100 requests it gets. Null: it is none.
    traffic_percent: Mapped[int | None]
    #: Rises with each change of what is wanted; a worker that acted on an older one changes nothing.
    generation: Mapped[int] = mapped_column(default=1)
    #: False once somebody undeployed it; the worker then stops it and deletes the row.
    wanted: Mapped[bool] = mapped_column(default=True)
    #: `pending`, `starting`, `ready`, `asleep`, `failed`.
    state: Mapped[str] = mapped_column(default="pending")
    reason: Mapped[str | None]
    message: Mapped[str | None]
    #: The inference worker that serves it, and until when its claim holds.
    host: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    #: The host whose engines answer at `endpoint` until those of `host` do: it is being drained.
    moving_from: Mapped[str | None]
    #: http(s)://address:port of the engine, and the key that it asks for.
    endpoint: Mapped[str | None]
    endpoint_key: Mapped[str | None]
    #: What requests to the engine must call the model, and the adapters beside it (`EngineKind.told`); null: what they
    #: like.
    endpoint_model: Mapped[str | None]
    #: What the engine had in hand at the last heartbeat: {"running", "waiting", "cache_share"}.
    load: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    #: Seconds without a request after which it sleeps; null: never by itself.
    idle_after_s: Mapped[int | None]
    #: What is wanted: to answer nobody and to take as little as its engine can, until somebody asks or wakes it.
    sleeping: Mapped[bool] = mapped_column(default=False, server_default=false())
    #: Some seconds coarse; the API stamps those that may fall asleep.
    last_used_at: Mapped[datetime | None]
    #: Since when it is being woken; null: it is not.
    woken_at: Mapped[datetime | None]
    #: When a host has claimed it, until it is ready.
    claimed_at: Mapped[datetime | None]
    #: How long its last starts took, from the claim, or the wake of an engine that kept its place, to readiness.
    start_seconds: Mapped[list[float]] = mapped_column(ARRAY(Float), default=list, server_default=text("'{}'"))
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())

    owner: Mapped[OwnerRow] = relationship(lazy="joined", innerjoin=True)
    model_version: Mapped[ModelVersionRow | None] = relationship(lazy="joined")
    #: Served beside the model, over its weights; each request chooses.
    adapters: Mapped[list[ModelVersionRow]] = relationship(
        secondary="deployment_adapters", lazy="selectin", order_by=ModelVersionRow.created_at, viewonly=True
    )

    @property
    def endpoint_host(self) -> str | None:
        """The host that answers at `endpoint`."""
        return self.moving_from or self.host

    @property
    def answers(self) -> bool:
        """Whether an engine may be asked. Not its state: while a new version is started, the old one goes on."""
        return self.endpoint is not None and self.endpoint_key is not None and not self.sleeping

    @property
    def served(self) -> str:
        """`owner/name@version`; of an engine that somebody else runs, what it calls its model."""
        version = self.model_version
        return str((self.external or {}).get("model") or self.name) if version is None else version.full_name

    @property
    def served_task(self) -> str | None:
        manifest = self.model_version.manifest if self.model_version is not None else {}
        return self.task or manifest.get("task")


class DeploymentAdapterRow(Base):
    """An adapter that a share of a deployment serves beside its model."""

    __tablename__ = "deployment_adapters"

    deployment_id: Mapped[UUID] = mapped_column(ForeignKey("deployments.id", ondelete="CASCADE"), primary_key=True)
    model_version_id: Mapped[UUID] = mapped_column(ForeignKey("model_versions.id"), primary_key=True, index=True)


class EngineHoldRow(Base):
    """What engines of a deployment may still use on a host, though less, or nothing there, is wanted of it by now.

    The ledger counts the larger of this and of what is wanted, until the host's inference worker says that they have
    ended, or has been silent for a lease: engines die with their worker.
    """

    __tablename__ = "engine_holds"

    host: Mapped[str] = mapped_column(primary_key=True)
    #: No foreign key: the engines may outlive the row.
    deployment_id: Mapped[UUID] = mapped_column(primary_key=True)
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    gpus: Mapped[int]
    gpu_ids: Mapped[list[str]] = mapped_column(ARRAY(TEXT))
    lease_until: Mapped[datetime]
