"""Users' own tokens of a model hub, sealed."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base


class HubTokenRow(Base):
    __tablename__ = "hub_tokens"

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id", ondelete="CASCADE"), primary_key=True)
    #: By `storage.secret_box`, whose key is not in the database.
    sealed: Mapped[bytes]
    #: The last four characters, to tell tokens apart.
    hint: Mapped[str]
    set_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
