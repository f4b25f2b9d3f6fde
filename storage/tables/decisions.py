"""Decisions of the scheduler, a sample of a day, as `scheduling.replay` packs them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base


class DecisionRow(Base):
    __tablename__ = "decisions"

    at: Mapped[datetime] = mapped_column(primary_key=True, server_default=func.clock_timestamp())
    packed: Mapped[bytes]
