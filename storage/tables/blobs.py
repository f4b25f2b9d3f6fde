"""Content that is stored once: pieces of files, and who refers to them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column, relationship

from storage.tables.base import Base, CreatedAt, UuidKey


class BlobRow(Base):
    """Bytes by their sha256. The object has the row's id in its key: a key that went is never written again."""

    __tablename__ = "blobs"
    __table_args__ = (Index("ix_blobs_keep_until", "keep_until"),)

    id: Mapped[UuidKey]
    sha256: Mapped[str] = mapped_column(unique=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    #: Null until the object is whole.
    stored_at: Mapped[datetime | None]
    #: Not deleted before, whoever refers to it or not: for pushes under way, and downloads of what was deleted.
    keep_until: Mapped[datetime]
    created_at: Mapped[CreatedAt]

    @property
    def key(self) -> str:
        """The object's key."""
        return f"blobs/{self.id}"


class ModelPieceRow(Base):
    """A model version's file is its pieces, by position, one after the other."""

    __tablename__ = "model_pieces"

    version_id: Mapped[UUID] = mapped_column(ForeignKey("model_versions.id"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    blob_id: Mapped[UUID] = mapped_column(ForeignKey("blobs.id"), index=True)

    blob: Mapped[BlobRow] = relationship(lazy="joined", innerjoin=True)


class ImportBlobRow(Base):
    """What was sent for an import, or taken from what its owner can read."""

    __tablename__ = "import_blobs"

    import_id: Mapped[UUID] = mapped_column(ForeignKey("model_imports.id"), primary_key=True)
    blob_id: Mapped[UUID] = mapped_column(ForeignKey("blobs.id"), primary_key=True, index=True)
