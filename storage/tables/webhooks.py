"""Webhooks, and each event that is told to one of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import TEXT, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from storage.tables.base import Base, CreatedAt, UuidKey
from storage.tables.owners import OwnerRow

DELIVERY_STATES = ("pending", "delivered", "failed")
_STATES = ", ".join(f"'{state}'" for state in DELIVERY_STATES)
PENDING = text("state = 'pending'")


class WebhookRow(Base):
    """Where an owner wants to be told of events. What it is sent goes out one after the other."""

    __tablename__ = "webhooks"
    __table_args__ = (Index("ix_webhooks_owner_id", "owner_id", "created_at"),)

    id: Mapped[UuidKey]
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id", ondelete="CASCADE"))
    name: Mapped[str]
    url: Mapped[str]
    #: `jobspecs.webhooks.EventType`s.
    event_types: Mapped[list[str]] = mapped_column(ARRAY(TEXT))
    #: The secret as `storage.secret_box` seals it for the owner, and its last characters, to tell secrets apart.
    sealed_secret: Mapped[bytes]
    secret_hint: Mapped[str]
    #: The one before it, which signs as well until then.
    previous_sealed_secret: Mapped[bytes | None]
    previous_until: Mapped[datetime | None]
    #: Since when nothing is sent to it, and why; null: it is used.
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None]
    #: When the first attempt failed after which none succeeded.
    failing_since: Mapped[datetime | None]
    #: Until when somebody sends to it.
    busy_until: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    #: When its owner changed it or its secret.
    updated_at: Mapped[CreatedAt]

    owner: Mapped[OwnerRow] = relationship(lazy="joined", innerjoin=True)


class WebhookDeliveryRow(Base):
    """One event for one webhook: its body is written once, and every attempt sends it with the same id."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint(f"state IN ({_STATES})", name="state_known"),
        Index("ix_webhook_deliveries_due", "webhook_id", "next_attempt_at", postgresql_where=PENDING),
        Index("ix_webhook_deliveries_webhook", "webhook_id", "created_at"),
        Index("ix_webhook_deliveries_created_at", "created_at"),
    )

    id: Mapped[UuidKey]
    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    event_type: Mapped[str]
    #: The JSON that is sent, as it is sent.
    body: Mapped[str]
    state: Mapped[str] = mapped_column(default="pending", server_default="pending")
    #: Attempts that were begun; also the fence of the one that is under way.
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    #: Attempts since it was made or asked for again, by which the next pause is chosen.
    tries: Mapped[int] = mapped_column(default=0, server_default="0")
    #: What came of the attempts: {"number", "at", "status", "error", "duration_s"}, the newest last.
    log: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, default=list, server_default=text("'[]'"))
    created_at: Mapped[CreatedAt]
    next_attempt_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]
