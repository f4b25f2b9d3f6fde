"""What the database says about itself and about who leads."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base


class SchemaCompatibilityRow(Base):
    """Code whose newest migration stands here can work with this database; see `storage.schema`."""

    __tablename__ = "schema_compatibility"

    revision: Mapped[str] = mapped_column(primary_key=True)


class SchedulerLeaderRow(Base):
    """The one row (id 1) tells which scheduler leads, since when, and when it last looked at the queue."""

    __tablename__ = "scheduler_leader"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    since: Mapped[datetime]
    beat_at: Mapped[datetime]
    #: Looks at the queue of all leaders so far, and the seconds that they took together.
    ticks: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    ticks_s: Mapped[float] = mapped_column(default=0.0, server_default="0")
