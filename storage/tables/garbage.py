"""What must go from the object store: of things that were deleted, and of pushes that never became a version."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base, CreatedAt


class GarbageRow(Base):
    """One prefix. A push writes it before it sends a byte and takes it back when it commits its version."""

    __tablename__ = "garbage"
    __table_args__ = (Index("ix_garbage_due_at", "due_at"),)

    #: The object of this key and all below `<prefix>/`.
    prefix: Mapped[str] = mapped_column(primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    #: Not deleted before this time; after a try that failed, later.
    due_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    #: From 1 on nobody may take it back: its objects may be gone.
    tries: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[CreatedAt]
