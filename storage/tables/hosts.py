"""Workers and what they offer. A host that was not seen for a while gets no jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base


class HostRow(Base):
    __tablename__ = "hosts"

    name: Mapped[str] = mapped_column(primary_key=True)
    slots: Mapped[int]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    gpus: Mapped[int]
    #: False while it gets no new jobs; why is in `reason`, one of `HostReason`, and for people in `message`.
    accepting: Mapped[bool]
    reason: Mapped[str | None]
    message: Mapped[str | None]
    #: Seconds by which its wall clock is ahead of the database's; null before the first measurement.
    clock_offset_s: Mapped[float | None]
    #: Free on the disk of its scratch folder, when it was announced.
    scratch_free_bytes: Mapped[int | None] = mapped_column(BigInteger)
    #: What it can serve models with: name of the engine -> {"version", "environment"}; empty where nothing serves.
    engines: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict, server_default=text("'{}'"))
    #: A `jobspecs.hosts.Machine`, as its workers last saw it; null for one of older code.
    machine: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    #: When a worker of it last came with a join token; null for one that `eigenwerk up` started.
    joined_at: Mapped[datetime | None]
    #: Somebody wants it to be left: it takes no new jobs and no deployments, and gives away those that it has.
    draining: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    #: In PEM: what the API trusts when it asks engines of this host by https.
    certificate: Mapped[str | None]
    seen_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class HostInstanceRow(Base):
    """The one process that works under a host's name in a role. Another of that name has to wait until it is silent."""

    __tablename__ = "host_instances"

    host: Mapped[str] = mapped_column(primary_key=True)
    #: `jobs` or `serving`.
    role: Mapped[str] = mapped_column(primary_key=True)
    #: Of the scratch folder: a worker that is restarted on it has the same one.
    instance: Mapped[UUID]
    seen_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
