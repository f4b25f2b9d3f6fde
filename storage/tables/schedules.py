"""Schedules, and what came of each of their times."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from storage.tables.base import Base, CreatedAt, UuidKey
from storage.tables.owners import OwnerRow


class ScheduleRow(Base):
    """A spec that is submitted again and again. It goes with its owner."""

    __tablename__ = "schedules"
    __table_args__ = (
        UniqueConstraint("owner_id", "name"),
        CheckConstraint("missed IN ('skip', 'once', 'all')", name="missed_known"),
        Index("ix_schedules_due", "next_at", postgresql_where=text("paused_at IS NULL")),
    )

    id: Mapped[UuidKey]
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id", ondelete="CASCADE"))
    name: Mapped[str]
    cron: Mapped[str]
    time_zone: Mapped[str]
    #: A `scheduling.schedules.Missed`.
    missed: Mapped[str]
    #: The spec of a job or pipeline, as it was given. JSON, not JSONB, which would forget the order of steps.
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    #: `storage.repositories.jobs.pipelines.NewStep`s as they were checked when it was made; a job has one.
    steps: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    #: The first time that no scheduler has looked at.
    next_at: Mapped[datetime]
    paused_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]

    owner: Mapped[OwnerRow] = relationship(lazy="joined", innerjoin=True)


class ScheduleRunRow(Base):
    """One time of a schedule: there can be one row of it, and the job is queued in its transaction."""

    __tablename__ = "schedule_runs"

    schedule_id: Mapped[UUID] = mapped_column(ForeignKey("schedules.id", ondelete="CASCADE"), primary_key=True)
    due_at: Mapped[datetime] = mapped_column(primary_key=True)
    ran_at: Mapped[CreatedAt]
    #: What was queued; null when it was refused, or is deleted.
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"), index=True)
    pipeline_id: Mapped[UUID | None] = mapped_column(ForeignKey("pipelines.id", ondelete="SET NULL"), index=True)
    #: Why nothing was queued.
    refused: Mapped[str | None]
