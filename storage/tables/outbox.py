"""Messages that must go out because a transaction committed. The relay sends them and marks them sent."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Identity, Index
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base, CreatedAt


class OutboxRow(Base):
    __tablename__ = "outbox"
    # Unsent rows are searched by the relay, sent ones when they are forgotten.
    __table_args__ = (
        Index("ix_outbox_unsent", "id", postgresql_where="sent_at IS NULL"),
        Index("ix_outbox_sent", "sent_at", postgresql_where="sent_at IS NOT NULL"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    #: `schedule` (look at the queue), `wake` (a host has a job) or `errand` (a delivery of a webhook is due).
    topic: Mapped[str]
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[CreatedAt]
    sent_at: Mapped[datetime | None]
