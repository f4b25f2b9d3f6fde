"""Pipelines and their steps."""

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
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TEXT
from sqlalchemy.orm import Mapped, mapped_column, relationship

from jobspecs.pipelines.lifecycle import PipelineState, StepState
from storage.tables.base import Base, CreatedAt, UuidKey
from storage.tables.owners import OwnerRow

_PIPELINE_STATES = ", ".join(f"'{state}'" for state in PipelineState)
_STEP_STATES = ", ".join(f"'{state}'" for state in StepState)


class PipelineRow(Base):
    """One acknowledged pipeline. `state` is written by `PipelineRepository` only."""

    __tablename__ = "pipelines"
    __table_args__ = (
        CheckConstraint(f"state IN ({_PIPELINE_STATES})", name="state_known"),
        UniqueConstraint("owner_id", "idempotency_key"),
        Index("ix_pipelines_owner_order", "owner_id", "submitted_order"),
        # What the scheduler looks at: those for which something may be decided.
        Index("ix_pipelines_due", "submitted_order", postgresql_where=text("due")),
    )

    id: Mapped[UuidKey]
    #: Rises with submission; also the cursor of lists.
    submitted_order: Mapped[int] = mapped_column(BigInteger, Identity(), unique=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id", ondelete="CASCADE"))
    name: Mapped[str]
    #: As it was submitted. JSON, not JSONB, which would forget the order of the steps.
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    idempotency_key: Mapped[str | None]
    request_sha256: Mapped[str]
    state: Mapped[str] = mapped_column(default=PipelineState.running.value)
    message: Mapped[str | None]
    #: Something has happened that no scheduler has looked at yet, other than the end of a step's job.
    due: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]

    owner: Mapped[OwnerRow] = relationship(lazy="joined", innerjoin=True)


class PipelineEventRow(Base):
    """A change of the pipeline's state, or of a step's. `PipelineRepository` writes them under the pipeline's lock: the
    numbers of one pipeline rise in the order in which its changes were committed.
    """

    __tablename__ = "pipeline_events"

    pipeline_id: Mapped[UUID] = mapped_column(ForeignKey("pipelines.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[CreatedAt]
    #: Null: of the pipeline itself.
    step: Mapped[str | None]
    state: Mapped[str]
    reason: Mapped[str | None]
    message: Mapped[str | None]
    #: What the step runs, or was taken from.
    job_id: Mapped[UUID | None]


class PipelineStepRow(Base):
    """One step. `state` and `reason` are written by `PipelineRepository` only."""

    __tablename__ = "pipeline_steps"
    __table_args__ = (
        CheckConstraint(f"state IN ({_STEP_STATES})", name="state_known"),
        Index("ix_pipeline_steps_job_id", "job_id"),
        Index("ix_pipeline_steps_running", "pipeline_id", postgresql_where=text("state = 'running'")),
    )

    pipeline_id: Mapped[UUID] = mapped_column(ForeignKey("pipelines.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    #: Its place in the document, from 0.
    number: Mapped[int]
    kind: Mapped[str]
    #: Its spec as it is written, with references to steps.
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    #: Its condition as it is written.
    condition: Mapped[str | None]
    #: Steps that have to succeed before.
    needs: Mapped[list[str]] = mapped_column(ARRAY(TEXT), server_default=text("'{}'"))
    #: A `jobspecs.pipelines.frozen.StepInputs`.
    inputs: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    #: What the job takes of a host.
    memory_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    #: `jobspecs.problems.Problem`s that did not stop the submission.
    warnings: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    state: Mapped[str] = mapped_column(default=StepState.waiting.value)
    reason: Mapped[str | None]
    message: Mapped[str | None]
    #: Each figure of the condition with the value that it saw; null before it was looked at.
    figures: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    #: A `jobspecs.pipelines.frozen.StepOutput`, once it has succeeded.
    output: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    #: What it runs or ran last, or took from.
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    deployment_id: Mapped[UUID | None] = mapped_column(ForeignKey("deployments.id", ondelete="SET NULL"))
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
