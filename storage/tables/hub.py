"""What is being pushed through the hub's protocol: content that arrived, and pushes that are no version yet."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import TEXT, BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from storage.tables.base import Base, CreatedAt, UuidKey
from storage.tables.owners import OwnerRow


class HubPushRow(Base):
    """A repository that was made and is empty, or a push whose last commit has not come; at most one of a name."""

    __tablename__ = "hub_pushes"
    __table_args__ = (
        UniqueConstraint("kind", "owner_id", "name"),
        CheckConstraint("kind IN ('models', 'datasets')", name="kind_known"),
        Index("ix_hub_pushes_touched_at", "touched_at"),
    )

    id: Mapped[UuidKey]
    kind: Mapped[str]
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id", ondelete="CASCADE"))
    name: Mapped[str]
    #: Path -> {"bytes", "sha256", "pieces"}: what the version will consist of.
    files: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    #: Paths that its commits have written, and those that clients said they would send and have not committed.
    written: Mapped[list[str]] = mapped_column(ARRAY(TEXT), default=list, server_default=text("'{}'"))
    announced: Mapped[list[str]] = mapped_column(ARRAY(TEXT), default=list, server_default=text("'{}'"))
    #: So many commits have changed it: who read it before the last one changes nothing.
    commits: Mapped[int] = mapped_column(default=0, server_default="0")
    created_at: Mapped[CreatedAt]
    #: When a client last said or sent something of it.
    touched_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())

    owner: Mapped[OwnerRow] = relationship(lazy="joined", innerjoin=True)


class HubUploadRow(Base):
    """Content of a file that an owner sent, or is sending, for commits of theirs to name by its sha256."""

    __tablename__ = "hub_uploads"

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id", ondelete="CASCADE"), primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    #: {"bytes", "sha256"} of its pieces; null until all of it is stored and has this sum.
    pieces: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB(none_as_null=True))
    #: Number of a part -> {"bytes", "sha256"}, of what arrives in parts.
    parts: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    created_at: Mapped[CreatedAt]


class HubXorbRow(Base):
    """Chunks that a client sent in one body. It may name them again for some days, and sends only others then."""

    __tablename__ = "hub_xorbs"
    __table_args__ = (Index("ix_hub_xorbs_created_at", "created_at"),)

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id", ondelete="CASCADE"), primary_key=True)
    #: As clients name it: 64 hex digits.
    hash: Mapped[str] = mapped_column(primary_key=True)
    #: Of the body, by which it is stored.
    sha256: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[CreatedAt]
