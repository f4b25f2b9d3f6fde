"""Batches of requests to deployed models, and the answers that they have so far."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from jobspecs.batches import ENDED, BatchState
from storage.tables.base import Base, CreatedAt, UuidKey
from storage.tables.owners import OwnerRow

_STATES = ", ".join(f"'{state}'" for state in BatchState)
_UNENDED = ", ".join(f"'{state}'" for state in BatchState if state not in ENDED)


class BatchRow(Base):
    """What is read and what is made are versions of data sets: whoever works it off needs no more than these.

    `state` is written by `BatchRepository.move` only.
    """

    __tablename__ = "batches"
    __table_args__ = (
        CheckConstraint(f"state IN ({_STATES})", name="state_known"),
        Index("ix_batches_owner_id", "owner_id", "created_at"),
        Index("ix_batches_unended", "created_at", postgresql_where=text(f"state IN ({_UNENDED})")),
    )

    id: Mapped[UuidKey]
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id", ondelete="CASCADE"))
    endpoint: Mapped[str]
    #: May be deleted once it has ended.
    input_version_id: Mapped[UUID]
    output_version_id: Mapped[UUID | None]
    error_version_id: Mapped[UUID | None]
    state: Mapped[str] = mapped_column(default="validating", server_default="validating")
    #: Why it failed: {"code", "line", "message", "param"} each.
    errors: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, default=list, server_default=text("'[]'"))
    notes: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, default=dict, server_default=text("'{}'"))
    #: The models that it names, once that is known.
    model: Mapped[str | None]
    requests: Mapped[int] = mapped_column(default=0, server_default="0")
    #: Of them, once it has ended; until then the answers are counted.
    completed: Mapped[int] = mapped_column(default=0, server_default="0")
    failed: Mapped[int] = mapped_column(default=0, server_default="0")
    #: State -> when it came into it, in seconds since 1970.
    times: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict, server_default=text("'{}'"))
    #: Counts those who took it on; who writes must name the number that it was given.
    fence: Mapped[int] = mapped_column(default=0, server_default="0")
    lease_until: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]

    owner: Mapped[OwnerRow] = relationship(lazy="joined", innerjoin=True)


class BatchAnswerRow(Base):
    """The answer to one line, until all of them are a file."""

    __tablename__ = "batch_answers"

    batch_id: Mapped[UUID] = mapped_column(ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True)
    #: It stands in the file of errors.
    failed: Mapped[bool]
    #: As it stands in the file.
    document: Mapped[str]
    created_at: Mapped[CreatedAt]
