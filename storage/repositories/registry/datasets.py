"""Data sets and their versions."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, and_, func, select, tuple_
from sqlalchemy.orm import Session

from jobspecs.dialect import Dialect
from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.profile import DatasetProfile
from jobspecs.provenance import UNKNOWN, Provenance
from jobspecs.purposes import Purpose
from jobspecs.references import Reference
from jobspecs.rights import Reach, Visibility
from storage.repositories.owners import named, within
from storage.repositories.registry.numbering import lock_named
from storage.tables import DatasetRow, DatasetVersionRow


def _given_names(dialect: Dialect | None) -> list[str] | None:
    """Names of columns that the file itself does not have: for code from before dialects were kept."""
    return None if dialect is None or dialect.has_header or dialect.columns is None else list(dialect.columns)


class DatasetRepository:
    """The datasets and dataset_versions tables. Reads keep within the reach that they are given."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add_version(
        self,
        owner_id: UUID,
        name: str,
        *,
        version_id: UUID,
        file_name: str,
        key: str,
        bytes_total: int,
        sha256: str,
        profile: DatasetProfile,
        provenance: Provenance = UNKNOWN,
        purpose: Purpose = "fine-tune",
    ) -> DatasetVersionRow:
        """Adds the next version; equal content, read alike, gives the version that has it (`key` is not used)."""
        dataset = lock_named(self._session, DatasetRow, owner_id, name)
        same = [
            row
            for row in self._session.scalars(
                select(DatasetVersionRow).where(
                    DatasetVersionRow.dataset_id == dataset.id,
                    DatasetVersionRow.sha256 == sha256,
                )
            )
            if row.holds(sha256, file_name, profile.dialect)
        ]
        if same:
            return same[0]
        row = DatasetVersionRow(
            id=version_id,
            file_name=file_name,
            key=key,
            bytes=bytes_total,
            sha256=sha256,
            rows=profile.rows,
            profile=profile.model_dump(mode="json"),
            header=_given_names(profile.dialect),
            origin=provenance.origin,
            license=provenance.license,
            purpose=purpose,
        )
        return self._append(dataset, row)

    def add_result(
        self,
        owner_id: UUID,
        name: str,
        *,
        job_id: UUID,
        fence: int,
        file: ManifestFile,
        key: str,
        profile: DatasetProfile,
        manifest: Manifest,
    ) -> DatasetVersionRow:
        """Adds what a job made as the next version, even where an earlier one has the same content."""
        row = DatasetVersionRow(
            id=uuid4(),
            file_name=file.path,
            key=key,
            bytes=file.bytes,
            sha256=file.sha256,
            rows=profile.rows,
            profile=profile.model_dump(mode="json"),
            job_id=job_id,
            fence=fence,
            manifest=manifest.model_dump(mode="json"),
        )
        return self._append(lock_named(self._session, DatasetRow, owner_id, name), row)

    def of_job(self, job_id: UUID) -> DatasetVersionRow | None:
        """The version that the job committed."""
        return self._session.scalars(select(DatasetVersionRow).where(DatasetVersionRow.job_id == job_id)).one_or_none()

    def get_version_or_none(self, version_id: UUID) -> DatasetVersionRow | None:
        return self._session.get(DatasetVersionRow, version_id)

    def change(self, row: DatasetRow, *, visibility: Visibility) -> None:
        row.visibility = visibility
        self._session.flush()

    def _append(self, dataset: DatasetRow, row: DatasetVersionRow) -> DatasetVersionRow:
        newest = self._session.scalar(
            select(func.max(DatasetVersionRow.version)).where(DatasetVersionRow.dataset_id == dataset.id)
        )
        row.dataset, row.version = dataset, max(newest or 0, dataset.version_deleted_max) + 1
        self._session.add(row)
        self._session.flush()
        self._session.refresh(row)
        return row

    def find(self, reach: Reach, reference: Reference) -> DatasetVersionRow | None:
        """The version that the reference means now. Data sets have no aliases but `latest`."""
        if reference.alias not in (None, "latest"):
            return None
        query = select(DatasetVersionRow).join(DatasetVersionRow.dataset)
        query = query.where(_named(reach, reference))
        if reference.version is not None:
            query = query.where(DatasetVersionRow.version == reference.version)
        return self._session.scalars(query.order_by(DatasetVersionRow.version.desc()).limit(1)).first()

    def find_by_id(self, reach: Reach, version_id: UUID) -> DatasetVersionRow | None:
        query = select(DatasetVersionRow).join(DatasetVersionRow.dataset).where(DatasetVersionRow.id == version_id)
        return self._session.scalars(query.where(within(reach, DatasetRow.owner_id, DatasetRow.visibility))).first()

    def page(
        self, reach: Reach, *, purpose: Purpose | None, after: DatasetVersionRow | None, descending: bool, limit: int
    ) -> Sequence[DatasetVersionRow]:
        """Versions in the reach by the time at which they came, those behind `after`."""
        query = select(DatasetVersionRow).join(DatasetVersionRow.dataset)
        query = query.where(within(reach, DatasetRow.owner_id, DatasetRow.visibility))
        place = tuple_(DatasetVersionRow.created_at, DatasetVersionRow.id)
        if purpose is not None:
            query = query.where(DatasetVersionRow.purpose == purpose)
        if after is not None:
            here = (after.created_at, after.id)
            query = query.where(place < here if descending else place > here)
        order = [column.desc() if descending else column for column in place]
        return self._session.scalars(query.order_by(*order).limit(limit)).all()

    def list_versions(self, reach: Reach, reference: Reference | None = None) -> Sequence[DatasetVersionRow]:
        """All versions of the data set that the reference names, or of all in the reach, newest first."""
        query = select(DatasetVersionRow).join(DatasetVersionRow.dataset)
        if reference is None:
            query = query.where(within(reach, DatasetRow.owner_id, DatasetRow.visibility))
        else:
            query = query.where(_named(reach, reference))
        order = (DatasetRow.owner_id, DatasetRow.name, DatasetVersionRow.version.desc())
        return self._session.scalars(query.order_by(*order)).all()


def _named(reach: Reach, reference: Reference) -> ColumnElement[bool]:
    """The condition that a data set is the one that the reference names, and in the reach."""
    owned = named(reach, DatasetRow.owner_id, reference.owner, DatasetRow.visibility)
    return and_(owned, DatasetRow.name == reference.name)
