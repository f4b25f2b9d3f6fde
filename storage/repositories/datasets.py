"""Data sets and their versions."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID, uuid4

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.profile import DatasetProfile
from storage.tables import DatasetRow, DatasetVersionRow, UserRow


class DatasetRepository:
    """The datasets and dataset_versions tables. Every read names the owner."""

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
        header: Sequence[str] | None = None,
    ) -> DatasetVersionRow:
        """Adds the next version; equal content gives the version that already has it (`key` is then not used)."""
        dataset = self._locked(owner_id, name)
        columns = list(header) if header is not None else None
        same = [
            row
            for row in self._session.scalars(
                select(DatasetVersionRow).where(
                    DatasetVersionRow.dataset_id == dataset.id,
                    DatasetVersionRow.sha256 == sha256,
                    DatasetVersionRow.file_name == file_name,
                )
            )
            if row.header == columns
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
            header=columns,
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
        return self._append(self._locked(owner_id, name), row)

    def of_job(self, job_id: UUID) -> DatasetVersionRow | None:
        """The version that the job committed."""
        return self._session.scalars(select(DatasetVersionRow).where(DatasetVersionRow.job_id == job_id)).one_or_none()

    def _locked(self, owner_id: UUID, name: str) -> DatasetRow:
        self._session.execute(
            insert(DatasetRow)
            .values(owner_id=owner_id, name=name)
            .on_conflict_do_nothing(index_elements=["owner_id", "name"])
        )
        # The lock makes version numbers gapless when two pushes meet.
        return self._session.scalars(
            select(DatasetRow)
            .where(DatasetRow.owner_id == owner_id, DatasetRow.name == name)
            .with_for_update(of=DatasetRow)
            .execution_options(populate_existing=True)
        ).one()

    def _append(self, dataset: DatasetRow, row: DatasetVersionRow) -> DatasetVersionRow:
        newest = self._session.scalar(
            select(func.max(DatasetVersionRow.version)).where(DatasetVersionRow.dataset_id == dataset.id)
        )
        row.dataset, row.version = dataset, max(newest or 0, dataset.version_deleted_max) + 1
        self._session.add(row)
        self._session.flush()
        self._session.refresh(row)
        return row

    def find(self, owner: str, name: str, version: int | None = None) -> DatasetVersionRow | None:
        """That version, or the newest one."""
        query = (
            select(DatasetVersionRow)
            .join(DatasetVersionRow.dataset)
            .join(DatasetRow.owner)
            .where(UserRow.name == owner, DatasetRow.name == name)
        )
        if version is not None:
            query = query.where(DatasetVersionRow.version == version)
        return self._session.scalars(query.order_by(DatasetVersionRow.version.desc()).limit(1)).first()

    def list_versions(self, owner_id: UUID, name: str | None = None) -> Sequence[DatasetVersionRow]:
        """All versions of one data set, or of all of the owner's, newest first."""
        query = select(DatasetVersionRow).join(DatasetVersionRow.dataset).where(DatasetRow.owner_id == owner_id)
        if name is not None:
            query = query.where(DatasetRow.name == name)
        return self._session.scalars(query.order_by(DatasetRow.name, DatasetVersionRow.version.desc())).all()
