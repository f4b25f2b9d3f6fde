"""The registry: models, versions, imports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobspecs.frozen import FrozenModel, FrozenRegistryModel
from jobspecs.lineage import Lineage
from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.references import Reference
from jobspecs.rights import Reach
from storage.repositories.deliveries import DeliveryRepository
from storage.repositories.owners import named, within
from storage.repositories.registry.blobs import HELD_S
from storage.repositories.registry.numbering import lock_named
from storage.tables import (
    BlobRow,
    ImportBlobRow,
    ModelAliasRow,
    ModelImportFileRow,
    ModelImportRow,
    ModelRow,
    ModelVersionRow,
)

#: Stands as the completion of an import that was given up.
_GIVEN_UP = datetime(1970, 1, 1, tzinfo=UTC)


class ModelRepository:
    """The models tables. Reads keep within the reach that they are given."""

    def __init__(self, session: Session, deliveries: DeliveryRepository) -> None:
        self._session = session
        self._deliveries = deliveries

    def add_version(
        self,
        owner_id: UUID,
        name: str,
        *,
        manifest: Manifest,
        prefix: str | None = None,
        job_id: UUID | None = None,
        fence: int | None = None,
        lineage: Lineage | None = None,
        license: str | None = None,
    ) -> ModelVersionRow:
        """Adds the next version. A job can add one only: the database refuses a second.

        Without a `prefix` its files are pieces, which the caller attaches (`work.blobs.attach`).
        `lineage`: what the manifest tells unless it is given. `license`: of the base, or of the version's own card.
        """
        model = lock_named(self._session, ModelRow, owner_id, name)
        newest = self._session.scalar(
            select(func.max(ModelVersionRow.version)).where(ModelVersionRow.model_id == model.id)
        )
        found = manifest.verification
        row = ModelVersionRow(
            model=model,
            version=max(newest or 0, model.version_deleted_max) + 1,
            job_id=job_id,
            fence=fence,
            digest=manifest.digest,
            manifest=manifest.model_dump(mode="json"),
            prefix=prefix,
            bytes=manifest.bytes_total,
            lineage=(lineage or Lineage.of_manifest(manifest)).model_dump(mode="json"),
            license=license,
            verification_state=found.state.value if found is not None else None,
            verification_cause=found.cause.value if found is not None and found.cause is not None else None,
        )
        self._session.add(row)
        self._session.flush()
        self._session.refresh(row)
        self._deliveries.tell_of_version(row)
        return row

    def newest_with(self, owner_id: UUID, name: str, digest: str) -> ModelVersionRow | None:
        """The newest version that isn't archived, where it has exactly these files.

        Nobody adds another, or deletes this one, until the transaction has ended.
        """
        model = lock_named(self._session, ModelRow, owner_id, name)
        versions = select(ModelVersionRow).where(
            ModelVersionRow.model_id == model.id, ModelVersionRow.archived_at.is_(None)
        )
        newest = self._session.scalars(versions.order_by(ModelVersionRow.version.desc()).limit(1)).first()
        return newest if newest is not None and newest.digest == digest and self.hold(newest.id) else None

    def set_first_use(self, owner_id: UUID, name: str, deploying: dict[str, Any] | None) -> None:
        """How whoever asks a version first deploys it, a `jobspecs.deploying.Deploying`; None: nobody does so.

        The model need not have a version yet.
        """
        lock_named(self._session, ModelRow, owner_id, name).first_use = deploying
        self._session.flush()

    def find_model(self, reach: Reach, reference: Reference) -> ModelRow | None:
        """The model that the reference names, whatever versions it has."""
        return self._session.scalars(select(ModelRow).where(_named(reach, reference))).one_or_none()

    def find(self, reach: Reach, reference: Reference) -> ModelVersionRow | None:
        """The version that the reference means now: without a number or alias the newest that is not archived."""
        model = self.find_model(reach, reference)
        if model is None:
            return None
        query = select(ModelVersionRow).where(ModelVersionRow.model_id == model.id)
        if reference.version is not None:
            query = query.where(ModelVersionRow.version == reference.version)
        elif reference.alias is not None and reference.alias != "latest":
            alias = self._session.get(ModelAliasRow, (model.id, reference.alias))
            if alias is None:
                return None
            query = query.where(ModelVersionRow.version == alias.version)
        else:
            query = query.where(ModelVersionRow.archived_at.is_(None))
        return self._session.scalars(query.order_by(ModelVersionRow.version.desc()).limit(1)).first()

    def find_by_digest(self, reach: Reach, digest: str) -> ModelVersionRow | None:
        """A version in the reach with exactly these files, the home's own first: where an adapter finds its base."""
        query = select(ModelVersionRow).join(ModelVersionRow.model)
        query = query.where(within(reach, ModelRow.owner_id, ModelRow.visibility), ModelVersionRow.digest == digest)
        own_first = (within(Reach.of(reach.home), ModelRow.owner_id).desc(), ModelVersionRow.created_at.desc())
        return self._session.scalars(query.order_by(*own_first).limit(1)).first()

    def get_version(self, version_id: UUID) -> ModelVersionRow:
        return self._session.get_one(ModelVersionRow, version_id)

    def get_version_or_none(self, version_id: UUID) -> ModelVersionRow | None:
        return self._session.get(ModelVersionRow, version_id)

    def hold(self, version_id: UUID) -> bool:
        """Keeps the version from being deleted until this transaction has ended. False when it is gone already."""
        found = select(ModelVersionRow.id).where(ModelVersionRow.id == version_id)
        return self._session.scalar(found.with_for_update(read=True, key_share=True)) is not None

    def of_import(self, reach: Reach, import_id: UUID) -> ModelVersionRow | None:
        """The version in the reach that the import became."""
        query = select(ModelVersionRow).join(ModelImportRow, ModelImportRow.version_id == ModelVersionRow.id)
        query = query.where(ModelImportRow.id == import_id, within(reach, ModelImportRow.owner_id))
        return self._session.scalars(query).one_or_none()

    def of_job(self, job_id: UUID) -> ModelVersionRow | None:
        """The version that the job committed."""
        return self._session.scalars(select(ModelVersionRow).where(ModelVersionRow.job_id == job_id)).one_or_none()

    def list_versions(self, reach: Reach, reference: Reference | None = None) -> Sequence[ModelVersionRow]:
        """All versions of the model that the reference names, or of all in the reach, newest first."""
        query = select(ModelVersionRow).join(ModelVersionRow.model)
        if reference is None:
            query = query.where(within(reach, ModelRow.owner_id, ModelRow.visibility))
        else:
            query = query.where(_named(reach, reference))
        order = (ModelRow.owner_id, ModelRow.name, ModelVersionRow.version.desc())
        return self._session.scalars(query.order_by(*order)).all()

    def lock(self, row: ModelRow) -> None:
        """Keeps others from changing it, and its names of versions, until this transaction has ended; reads it anew."""
        self._session.refresh(row, with_for_update={"of": ModelRow})

    def change(self, row: ModelRow, **values: Any) -> None:
        """`values`: visibility, description, tags, license, first_use."""
        for name, value in values.items():
            setattr(row, name, value)
        self._session.flush()

    def archive(self, rows: Sequence[ModelVersionRow], *, archived: bool) -> None:
        """Those that are archived already keep their time."""
        ids = [row.id for row in rows if (row.archived_at is not None) != archived]
        when = func.clock_timestamp() if archived else None
        self._session.execute(update(ModelVersionRow).where(ModelVersionRow.id.in_(ids)).values(archived_at=when))

    def license_of(self, base: FrozenModel | None) -> str | None:
        """Under which the model that a job began with is known to be."""
        if isinstance(base, FrozenRegistryModel):
            row = self._session.get(ModelVersionRow, base.version_id)
            return row.license_known if row is not None else None
        return base.license if base is not None else None

    def start_import(self, owner_id: UUID, name: str) -> ModelImportRow:
        row = ModelImportRow(owner_id=owner_id, name=name)
        self._session.add(row)
        self._session.flush()
        return row

    def open_import(self, reach: Reach, import_id: UUID, *, lock: bool = False) -> ModelImportRow | None:
        """The import, when it is in the reach and not completed."""
        query = select(ModelImportRow).where(
            ModelImportRow.id == import_id,
            within(reach, ModelImportRow.owner_id),
            ModelImportRow.completed_at.is_(None),
        )
        return self._session.scalars(query.with_for_update() if lock else query).one_or_none()

    def give_up_imports(self, older_than_s: float, limit: int = 200) -> Sequence[UUID]:
        """Closes the imports that were begun longer ago than `older_than_s` seconds: nobody can complete them any more.

        So it does with those begun longer than HELD_S ago for which nothing was sent in this time: whoever sends holds
        the content for as long. Returns those that are closed and not yet forgotten, of earlier calls too.
        """
        now = func.clock_timestamp()
        long_ago = ModelImportRow.created_at < now - timedelta(seconds=older_than_s)
        sent = exists().where(
            ImportBlobRow.import_id == ModelImportRow.id,
            BlobRow.id == ImportBlobRow.blob_id,
            BlobRow.keep_until > now,
        )
        idle = and_(ModelImportRow.created_at < now - timedelta(seconds=HELD_S), ~sent)
        stale = (ModelImportRow.completed_at.is_(None), or_(long_ago, idle))
        self._session.execute(update(ModelImportRow).where(*stale).values(completed_at=_GIVEN_UP))
        closed = select(ModelImportRow.id).where(ModelImportRow.completed_at == _GIVEN_UP)
        return self._session.scalars(closed.limit(limit)).all()

    def forget_import(self, import_id: UUID) -> None:
        """Deletes an import that was given up, and its file rows; the caller has deleted its objects before."""
        self._session.execute(delete(ModelImportFileRow).where(ModelImportFileRow.import_id == import_id))
        given_up = (ModelImportRow.id == import_id, ModelImportRow.completed_at == _GIVEN_UP)
        self._session.execute(delete(ModelImportRow).where(*given_up))

    def add_import_file(self, import_id: UUID, file: ManifestFile, pieces: Sequence[str]) -> None:
        """Records a stored file with the sha256 of its pieces; sending a path again replaces it."""
        values = {"bytes": file.bytes, "sha256": file.sha256, "pieces": list(pieces)}
        self._session.execute(
            insert(ModelImportFileRow)
            .values(import_id=import_id, path=file.path, **values)
            .on_conflict_do_update(index_elements=["import_id", "path"], set_=values)
        )

    def import_files(self, import_id: UUID) -> dict[ManifestFile, tuple[str, ...]]:
        """The files that were sent, by path, and the sha256 of the pieces of each."""
        rows = self._session.scalars(
            select(ModelImportFileRow)
            .where(ModelImportFileRow.import_id == import_id)
            .order_by(ModelImportFileRow.path)
            .execution_options(populate_existing=True)
        )
        return {ManifestFile(path=row.path, bytes=row.bytes, sha256=row.sha256): tuple(row.pieces) for row in rows}

    def complete_import(self, row: ModelImportRow, version: ModelVersionRow) -> None:
        row.completed_at = self._session.scalar(select(func.clock_timestamp()))
        row.version_id = version.id
        self._session.flush()


def _named(reach: Reach, reference: Reference) -> ColumnElement[bool]:
    """The condition that a model is the one that the reference names, and in the reach."""
    owned = named(reach, ModelRow.owner_id, reference.owner, ModelRow.visibility)
    return and_(owned, ModelRow.name == reference.name)
