"""Sweeps and their trials."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship
from sqlalchemy.types import Float

from jobspecs.sweeps.lifecycle import SweepState, TrialState
from storage.tables.base import Base, CreatedAt, UuidKey
from storage.tables.owners import OwnerRow

_SWEEP_STATES = ", ".join(f"'{state}'" for state in SweepState)
_TRIAL_STATES = ", ".join(f"'{state}'" for state in TrialState)


class SweepRow(Base):
    """One acknowledged sweep. `state` is written by `SweepRepository` only."""

    __tablename__ = "sweeps"
    __table_args__ = (
        CheckConstraint(f"state IN ({_SWEEP_STATES})", name="state_known"),
        UniqueConstraint("owner_id", "idempotency_key"),
        Index("ix_sweeps_owner_order", "owner_id", "submitted_order"),
        # What the scheduler looks at: those for which something may be decided, and those that time alone takes on.
        Index("ix_sweeps_due", "submitted_order", postgresql_where=text("due")),
        Index("ix_sweeps_look_at", "look_at", postgresql_where=text("look_at IS NOT NULL")),
    )

    id: Mapped[UuidKey]
    #: Rises with submission; also the cursor of lists.
    submitted_order: Mapped[int] = mapped_column(BigInteger, Identity(), unique=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id", ondelete="CASCADE"))
    name: Mapped[str]
    #: As it was submitted. JSON, not JSONB, which would forget the order of fields.
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    #: A `jobspecs.sweeps.frozen.SweepPlan`.
    plan: Mapped[dict[str, Any]]
    idempotency_key: Mapped[str | None]
    request_sha256: Mapped[str]
    state: Mapped[str] = mapped_column(default=SweepState.running.value)
    message: Mapped[str | None]
    #: The number of the best trial, once it is known.
    winner: Mapped[int | None]
    #: Something has happened that no scheduler has looked at yet, other than the end of a trial's job.
    due: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    #: When to look though nothing has happened: trials report while they train, and time runs out.
    look_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]

    owner: Mapped[OwnerRow] = relationship(lazy="joined", innerjoin=True)


class SweepTrialRow(Base):
    """One trial that was begun, or what confirms the winner. `state` is written by `SweepRepository` only."""

    __tablename__ = "sweep_trials"
    __table_args__ = (
        CheckConstraint(f"state IN ({_TRIAL_STATES})", name="state_known"),
        Index("ix_sweep_trials_job_id", "job_id"),
        Index("ix_sweep_trials_open", "sweep_id", postgresql_where=text("state IN ('running', 'stopped')")),
    )

    sweep_id: Mapped[UUID] = mapped_column(ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True)
    #: From 1 in the order in which they began; 0 confirms the winner.
    number: Mapped[int] = mapped_column(primary_key=True)
    #: Field -> value. JSON, not JSONB, which would forget the order of fields.
    values: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(default=TrialState.running.value)
    reason: Mapped[str | None]
    message: Mapped[str | None]
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    #: Its loss on rows held out at each rung that it came to.
    rungs: Mapped[list[float]] = mapped_column(ARRAY(Float), server_default=text("'{}'"))
    #: The last step that it is known to have taken.
    steps: Mapped[int] = mapped_column(default=0, server_default="0")
    #: The figure that decides, with the ends of its 95 % interval.
    value: Mapped[float | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    #: A `jobspecs.pipelines.frozen.StepOutput`, once it has succeeded.
    output: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    started_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]
