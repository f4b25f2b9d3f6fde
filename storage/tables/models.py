"""Registered models: versions with their manifests, aliases, and imports under way."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import TEXT, BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from jobspecs.rights import Visibility
from storage.tables.base import Base, CreatedAt, UuidKey
from storage.tables.owners import VISIBILITIES, OwnerRow


class ModelRow(Base):
    __tablename__ = "models"
    __table_args__ = (
        UniqueConstraint("owner_id", "name"),
        CheckConstraint(f"visibility IN ({VISIBILITIES})", name="visibility_known"),
    )

    id: Mapped[UuidKey]
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id"))
    name: Mapped[str]
    visibility: Mapped[Visibility] = mapped_column(String, default="private", server_default="private")
    description: Mapped[str | None]
    tags: Mapped[list[str]] = mapped_column(ARRAY(TEXT), default=list, server_default=text("'{}'"))
    #: What its owner says, instead of what its versions are known to have.
    license: Mapped[str | None]
    #: The highest number among its deleted versions, 0 when none was: a number means one content for ever.
    version_deleted_max: Mapped[int] = mapped_column(default=0, server_default="0")
    #: How a version is deployed by whoever asks it first; null: it is not.
    first_use: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    created_at: Mapped[CreatedAt]

    owner: Mapped[OwnerRow] = relationship(lazy="joined", innerjoin=True)


class ModelVersionRow(Base):
    """One committed artifact. Readers see only what its manifest names."""

    __tablename__ = "model_versions"
    __table_args__ = (
        UniqueConstraint("model_id", "version"),
        CheckConstraint(
            "(verification_state IS NOT DISTINCT FROM 'unverified') = (verification_cause IS NOT NULL)",
            name="verification_explained",
        ),
        # Who was made from this, by digest.
        Index(
            "ix_model_versions_lineage", "lineage", postgresql_using="gin", postgresql_ops={"lineage": "jsonb_path_ops"}
        ),
    )

    id: Mapped[UuidKey]
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    version: Mapped[int]
    #: The job that made it; unique, so a job commits at most one result. Null for an import.
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id"), unique=True)
    #: The fence under which the job committed it.
    fence: Mapped[int | None]
    digest: Mapped[str] = mapped_column(index=True)
    #: A `jobspecs.manifest.Manifest`.
    manifest: Mapped[dict[str, Any]]
    #: Its files are the objects `<prefix>/<path>`; null: they are pieces (`ModelPieceRow`).
    prefix: Mapped[str | None]
    bytes: Mapped[int] = mapped_column(BigInteger)
    #: A `jobspecs.lineage.Lineage`.
    lineage: Mapped[dict[str, Any] | None]
    #: What the comparison with its source found (`jobspecs.verification`); null: it was never compared.
    verification_state: Mapped[str | None]
    #: Why it is unverified; null: it is not.
    verification_cause: Mapped[str | None]
    #: Of the base that it was trained from, or of its own card.
    license: Mapped[str | None]
    #: Since when lists, and names without a version, pass it over.
    archived_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]

    model: Mapped[ModelRow] = relationship(lazy="joined", innerjoin=True)

    @property
    def full_name(self) -> str:
        """`owner/name@version`."""
        return f"{self.model.owner.name}/{self.model.name}@{self.version}"

    @property
    def license_known(self) -> str | None:
        """What the owner says, else what the version is known to have."""
        return self.model.license or self.license


class ModelAliasRow(Base):
    """A name that moves, such as `prod`."""

    __tablename__ = "model_aliases"

    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"), primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    updated_at: Mapped[CreatedAt]


class ModelAliasMoveRow(Base):
    """One step of an alias: set, rolled back or deleted. What is a step back stands here too: nothing is taken out."""

    __tablename__ = "model_alias_moves"

    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    #: Counts from 1 for each alias.
    number: Mapped[int] = mapped_column(primary_key=True)
    #: `set`, `rollback`, `delete`.
    kind: Mapped[str]
    #: Where it pointed before and points from then on; null: nowhere.
    version_from: Mapped[int | None]
    version_to: Mapped[int | None]
    #: As in a job's history: `user:ada`.
    actor: Mapped[str]
    reason: Mapped[str | None]
    #: Onto a version that was unverified then.
    forced: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    at: Mapped[CreatedAt]


class ModelImportRow(Base):
    """Files that are being sent to become a version; nobody sees them before the import is completed."""

    __tablename__ = "model_imports"

    id: Mapped[UuidKey]
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id"))
    name: Mapped[str]
    created_at: Mapped[CreatedAt]
    completed_at: Mapped[datetime | None]
    #: What it became.
    version_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_versions.id"), index=True)


class ModelImportFileRow(Base):
    __tablename__ = "model_import_files"

    import_id: Mapped[UUID] = mapped_column(ForeignKey("model_imports.id"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    #: The sha256 of its pieces, in their order; empty: nothing of it is stored.
    pieces: Mapped[list[str]] = mapped_column(ARRAY(TEXT), server_default="{}")
