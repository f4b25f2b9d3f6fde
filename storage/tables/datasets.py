"""Data sets and their versions. A version is one immutable stored file and its profile."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import JSON, BigInteger, CheckConstraint, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from jobspecs.dialect import Dialect, named_columns
from jobspecs.purposes import PURPOSES, Purpose
from jobspecs.rights import Visibility
from storage.tables.base import Base, CreatedAt, UuidKey
from storage.tables.owners import VISIBILITIES, OwnerRow

_PURPOSES = ", ".join(f"'{purpose}'" for purpose in PURPOSES)


class DatasetRow(Base):
    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("owner_id", "name"),
        CheckConstraint(f"visibility IN ({VISIBILITIES})", name="visibility_known"),
    )

    id: Mapped[UuidKey]
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id"))
    name: Mapped[str]
    visibility: Mapped[Visibility] = mapped_column(String, default="private", server_default="private")
    #: The highest number among its deleted versions, 0 when none was: a number means one content for ever.
    version_deleted_max: Mapped[int] = mapped_column(default=0, server_default="0")
    created_at: Mapped[CreatedAt]

    owner: Mapped[OwnerRow] = relationship(lazy="joined", innerjoin=True)


class DatasetVersionRow(Base):
    __tablename__ = "dataset_versions"
    __table_args__ = (
        UniqueConstraint("dataset_id", "version"),
        CheckConstraint(f"purpose IN ({_PURPOSES})", name="purpose_known"),
    )

    id: Mapped[UuidKey]
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id"))
    version: Mapped[int]
    file_name: Mapped[str]
    key: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    rows: Mapped[int] = mapped_column(BigInteger)
    #: A `jobspecs.profile.DatasetProfile`. JSON, not JSONB, which would forget the order of the columns.
    profile: Mapped[dict[str, Any]] = mapped_column(JSON)
    #: Names of the columns of a file that has no header of its own. Read for versions whose profile has no dialect.
    header: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    #: The job that made it, and the fence of the attempt; null for what was pushed.
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id"), unique=True)
    fence: Mapped[int | None]
    #: A `jobspecs.manifest.Manifest` with lineage and figures, for what a job made.
    manifest: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    #: A `jobspecs.provenance.Provenance`, as whoever pushed it said.
    origin: Mapped[str | None]
    license: Mapped[str | None]
    purpose: Mapped[Purpose] = mapped_column(String, default="fine-tune", server_default="fine-tune")
    created_at: Mapped[CreatedAt]

    dataset: Mapped[DatasetRow] = relationship(lazy="joined", innerjoin=True)

    def how_to_read(self) -> Dialect | None:
        """What is known of the file's text. Versions from before it was kept leave the rest to be recognised."""
        kept = self.profile.get("dialect")
        return Dialect.model_validate(kept) if kept is not None else named_columns(self.header)

    def holds(self, sha256: str, file_name: str, dialect: Dialect | None) -> bool:
        """Whether this is a version of the same content, read in the same way."""
        return (self.sha256, self.file_name, self.how_to_read()) == (sha256, file_name, dialect)
