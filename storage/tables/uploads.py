"""Files that OpenAI's clients send in parts. Their parts' objects are garbage from the beginning."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from jobspecs.purposes import PURPOSES, Purpose
from storage.tables.base import Base, CreatedAt, UuidKey
from storage.tables.owners import OwnerRow

UPLOAD_STATES = ("pending", "completed", "cancelled")
_STATES = ", ".join(f"'{state}'" for state in UPLOAD_STATES)
_PURPOSES = ", ".join(f"'{purpose}'" for purpose in PURPOSES)


class UploadRow(Base):
    __tablename__ = "uploads"
    __table_args__ = (
        CheckConstraint(f"state IN ({_STATES})", name="state_known"),
        CheckConstraint(f"purpose IN ({_PURPOSES})", name="purpose_known"),
        Index("ix_uploads_owner_id", "owner_id", "created_at"),
    )

    id: Mapped[UuidKey]
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id", ondelete="CASCADE"))
    file_name: Mapped[str]
    purpose: Mapped[Purpose] = mapped_column(String)
    #: That were said to come.
    bytes: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(default="pending", server_default="pending")
    #: The version that it became; it may be deleted by now.
    version_id: Mapped[UUID | None]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]

    owner: Mapped[OwnerRow] = relationship(lazy="joined", innerjoin=True)


class UploadPartRow(Base):
    """One part, whose object is `uploads/<upload>/<part>`."""

    __tablename__ = "upload_parts"

    id: Mapped[UuidKey]
    upload_id: Mapped[UUID] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), index=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    created_at: Mapped[CreatedAt]
