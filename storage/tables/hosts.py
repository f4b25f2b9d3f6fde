"""Workers and what they offer. A host that was not seen for a while gets no jobs."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, func
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base


class HostRow(Base):
    __tablename__ = "hosts"

    name: Mapped[str] = mapped_column(primary_key=True)
    slots: Mapped[int]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    gpus: Mapped[int]
    #: False while the worker shuts down or its scratch disk is full: it gets no new jobs.
    accepting: Mapped[bool]
    seen_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
