"""Jobs, their transitions, their events and their checkpoints."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    UniqueConstraint,
    case,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TEXT
from sqlalchemy.orm import Mapped, column_property, mapped_column, relationship

from jobspecs.lifecycle import TERMINAL, JobState
from storage.tables.base import Base, CreatedAt, UuidKey
from storage.tables.owners import OwnerRow

#: The highest boost.
BOOST_MAX = 100
#: Jobs that agree in these wait for the same places: only the first few of them need be looked at.
HEAD = ("boost", "priority", "owner_id", "gpus", "slots", "memory_bytes", "max_runtime_s")
_QUEUED, _SUCCEEDED = text("state = 'queued'"), text("state = 'succeeded'")
_AVOIDING = text("state = 'queued' AND avoid_until IS NOT NULL")
_DIGEST = text("(inputs #>> '{model,digest}'::text[])")
_STATES = ", ".join(f"'{state}'" for state in JobState)
_ENDED_STATES = ", ".join(f"'{state}'" for state in JobState if state in TERMINAL)


class JobRow(Base):
    """One acknowledged job. `state` and `reason` are written by `JobRepository.transition` only."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"state IN ({_STATES})", name="state_known"),
        CheckConstraint(f"boost BETWEEN 0 AND {BOOST_MAX}", name="boost_known"),
        CheckConstraint("fence >= 0 AND crash_count >= 0", name="counts_not_negative"),
        UniqueConstraint("owner_id", "idempotency_key"),
        # Finished jobs, the most by far, are in none of the indexes that scheduler and hosts read at every look.
        # Conditions are written as queries write them: PostgreSQL must be able to prove one from the other.
        Index("ix_jobs_queue", text("boost DESC"), "submitted_order", postgresql_where=_QUEUED),
        Index("ix_jobs_heads", *HEAD, "submitted_order", postgresql_where=_QUEUED),
        Index("ix_jobs_avoiding", text("boost DESC"), "submitted_order", postgresql_where=_AVOIDING),
        Index("ix_jobs_queued_at", "queued_at", postgresql_where=_QUEUED),
        Index("ix_jobs_active", "host", "submitted_order", postgresql_where=text("host IS NOT NULL")),
        Index("ix_jobs_lease", "lease_until", postgresql_where=text("lease_until IS NOT NULL")),
        Index("ix_jobs_speed", "kind", "gpus", "submitted_order", postgresql_where=_SUCCEEDED),
        Index("ix_jobs_speed_of_model", "kind", "gpus", _DIGEST, "submitted_order", postgresql_where=_SUCCEEDED),
        Index("ix_jobs_owner_order", "owner_id", "submitted_order"),
        Index("ix_jobs_owner_state_order", "owner_id", "state", "submitted_order"),
        Index("ix_jobs_state_order", "state", "submitted_order"),
        # Ended jobs whose attempts may have left files; the housekeeper empties it.
        Index(
            "ix_jobs_unswept",
            "submitted_order",
            postgresql_where=f"fence > swept_fence AND state IN ({_ENDED_STATES})",
        ),
    )

    id: Mapped[UuidKey]
    #: Rises with submission; also the cursor of lists.
    submitted_order: Mapped[int] = mapped_column(BigInteger, Identity(), unique=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id"))
    kind: Mapped[str]
    name: Mapped[str]
    spec: Mapped[dict[str, Any]]
    #: A `jobspecs.frozen.FrozenInputs`.
    inputs: Mapped[dict[str, Any]]
    #: `jobspecs.problems.Problem`s that did not stop the submission.
    warnings: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    #: Orders the owner's own jobs.
    priority: Mapped[int]
    #: Orders jobs of all owners; an administrator sets it.
    boost: Mapped[int] = mapped_column(default=0, server_default="0")
    slots: Mapped[int]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    gpus: Mapped[int]
    #: Those that its attempt works on, by the names of its host; empty until it has begun.
    gpu_ids: Mapped[list[str]] = mapped_column(ARRAY(TEXT), default=list, server_default=text("'{}'"))
    #: Seconds that an attempt may run (`resources.max_runtime`). The default is the spec's.
    max_runtime_s: Mapped[float] = mapped_column(server_default=text("86400"))
    idempotency_key: Mapped[str | None]
    #: What its submitter notes of it, to find it by: texts by name.
    notes: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, default=dict, server_default=text("'{}'"))
    #: sha256 of the submitted spec: the same key with another spec is a mistake of the caller.
    request_sha256: Mapped[str]

    state: Mapped[str] = mapped_column(default=JobState.queued.value)
    reason: Mapped[str | None]
    message: Mapped[str | None]
    #: Number of the last transition; they count from 1 without gaps.
    transition_seq: Mapped[int] = mapped_column(default=0)
    #: Counts attempts. Every write of an attempt must name the fence that it was given.
    fence: Mapped[int] = mapped_column(default=0)
    #: Crashes of its own process, and hosts that failed under it, since its newest checkpoint.
    crash_count: Mapped[int] = mapped_column(default=0)
    host_losses: Mapped[int] = mapped_column(default=0, server_default="0")
    #: Hosts that could not run it; until `avoid_until` it goes to others, where there are others.
    avoid_hosts: Mapped[list[str]] = mapped_column(ARRAY(TEXT), default=list, server_default=text("'{}'"))
    avoid_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    #: Those that it avoids at the moment.
    avoided_hosts: Mapped[list[str]] = column_property(
        case((avoid_until > func.clock_timestamp(), avoid_hosts), else_=literal_column("'{}'::text[]"))
    )
    #: The ended job whose spec and inputs it has and whose checkpoint it goes on from.
    retry_of: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    #: Files of attempts up to this one have been swept from the object store.
    swept_fence: Mapped[int] = mapped_column(default=0, server_default="0")
    host: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    #: Not started before this time (back-off after a crash).
    not_before: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    #: When it came into the queue for the last time.
    queued_at: Mapped[CreatedAt]
    #: When its first attempt, and its last one, got a place.
    started_at: Mapped[datetime | None]
    assigned_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    owner: Mapped[OwnerRow] = relationship(lazy="joined", innerjoin=True)


class JobTransitionRow(Base):
    """One step of a job through its states, written in the same transaction as the step."""

    __tablename__ = "job_transitions"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str | None]
    state: Mapped[str]
    reason: Mapped[str | None]
    message: Mapped[str | None]
    fence: Mapped[int]
    #: Who did it: `user:<name>`, `scheduler`, `host:<name>`, `reaper`.
    actor: Mapped[str]
    at: Mapped[CreatedAt]


class JobEventRow(Base):
    """What a child said (`jobspecs.events`), written in batches."""

    __tablename__ = "job_events"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    fence: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    event: Mapped[dict[str, Any]]


class CheckpointRow(Base):
    """A complete checkpoint in the object store."""

    __tablename__ = "checkpoints"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    fence: Mapped[int] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    prefix: Mapped[str]
    #: A `jobspecs.manifest.Manifest`.
    manifest: Mapped[dict[str, Any]]
    created_at: Mapped[CreatedAt]
