"""Deployments: which model should be served, and what the inference workers have made of it.

One that is served on several hosts has several rows of its owner and name, its *shares*. Each is claimed and served by
itself; what they have in common is what is wanted.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
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
    model_version_id: Mapped[UUID] = mapped_column(ForeignKey("model_versions.id"))
    engine: Mapped[str]
    #: Of this share.
    replicas: Mapped[int]
    #: Main memory of all replicas of this share.
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    gpus: Mapped[int] = mapped_column(default=0, server_default="0")
    #: Those that it was given, by the names of its host (`HostConfig.gpu_ids`); chosen under the host's lock.
    gpu_ids: Mapped[list[str]] = mapped_column(ARRAY(TEXT), default=list, server_default=text("'{}'"))
    #: Rises with each change of what is wanted; a worker that acted on an older one changes nothing.
    generation: Mapped[int] = mapped_column(default=1)
    #: False once somebody undeployed it; the worker then stops it and deletes the row.
    wanted: Mapped[bool] = mapped_column(default=True)
    #: `pending`, `starting`, `ready`, `failed`.
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
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())

    owner: Mapped[OwnerRow] = relationship(lazy="joined", innerjoin=True)
    model_version: Mapped[ModelVersionRow] = relationship(lazy="joined", innerjoin=True)


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
