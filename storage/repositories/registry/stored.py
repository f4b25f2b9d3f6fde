"""What is stored, in bytes by kind and owner; and old versions that retention may delete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    case,
    cast,
    delete,
    exists,
    func,
    or_,
    select,
    text,
    true,
    union_all,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from jobspecs.lifecycle import TERMINAL
from jobspecs.rights import Reach
from storage.repositories.owners import same_owner, within
from storage.tables import (
    BlobRow,
    CheckpointRow,
    DatasetRow,
    DatasetVersionRow,
    HubUploadRow,
    HubXorbRow,
    JobEventRow,
    JobRow,
    ModelImportFileRow,
    ModelImportRow,
    ModelPieceRow,
    ModelRow,
    ModelVersionRow,
    OwnerRow,
    UploadPartRow,
    UploadRow,
)


@dataclass(frozen=True)
class Stored:
    """`kind`: datasets, models, checkpoints, imports (files of imports that nobody has completed yet), or uploads (what
    clients of the hub have sent, and no version of the owner's has).
    """

    owner: str
    kind: str
    #: Versions, checkpoints or files.
    items: int
    bytes: int


def _uploads() -> Select[tuple[int, UUID]]:
    """Whole files, parts of others, chunks that clients may name again for some days; parts of OpenAI's uploads."""
    parts = func.jsonb_each(HubUploadRow.parts).table_valued("key", "value").alias("part")
    parts_bytes = select(func.sum(cast(parts.c.value.op("->>")("bytes"), BigInteger))).scalar_subquery()
    piece = HubUploadRow.pieces[0]["sha256"].astext
    in_a_version = (
        select(ModelPieceRow.version_id)
        .join(BlobRow, BlobRow.id == ModelPieceRow.blob_id)
        .join(ModelVersionRow, ModelVersionRow.id == ModelPieceRow.version_id)
        .join(ModelRow, ModelRow.id == ModelVersionRow.model_id)
        .where(BlobRow.sha256 == piece, same_owner(ModelRow.owner_id, HubUploadRow.owner_id))
    )
    whole = case((HubUploadRow.pieces.is_(None), func.coalesce(parts_bytes, 0)), else_=HubUploadRow.bytes)
    files = select(whole.label("bytes"), HubUploadRow.owner_id.label("whose")).where(~in_a_version.exists())
    chunks = select(HubXorbRow.bytes.label("bytes"), HubXorbRow.owner_id.label("whose"))
    sent = select(UploadPartRow.bytes.label("bytes"), UploadRow.owner_id.label("whose"))
    sent = sent.join(UploadRow, UploadRow.id == UploadPartRow.upload_id).where(UploadRow.state == "pending")
    both = union_all(files, chunks, sent).subquery()
    return select(both.c.bytes, both.c.whose)


def _ago(seconds: float) -> ColumnElement[bool]:
    return func.clock_timestamp() - text("make_interval(secs => :seconds)").bindparams(seconds=seconds)


#: Live rows of job_events, and the bytes of a mean one with its header of 24 and its line pointer of 4.
_EVENT_STATISTICS = text("""
SELECT coalesce((SELECT n_live_tup FROM pg_stat_user_tables WHERE relid = 'job_events'::regclass), 0),
    (SELECT sum(avg_width) + 28 FROM pg_stats WHERE schemaname = current_schema() AND tablename = 'job_events')
""")


class StoredRepository:
    """Reads sizes over several tables."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def by_owner(self, reach: Reach) -> list[Stored]:
        """Sorted by owner, and the kind with most bytes first."""
        file = func.jsonb_array_elements(CheckpointRow.manifest["files"]).column_valued("file")
        checkpoint_bytes = select(func.sum(cast(file.op("->>")("bytes"), BigInteger))).scalar_subquery()
        datasets = select(DatasetVersionRow.bytes.label("bytes"), DatasetRow.owner_id.label("whose"))
        models = select(ModelVersionRow.bytes.label("bytes"), ModelRow.owner_id.label("whose"))
        checkpoints = select(checkpoint_bytes.label("bytes"), JobRow.owner_id.label("whose"))
        imports = select(ModelImportFileRow.bytes.label("bytes"), ModelImportRow.owner_id.label("whose"))
        imports = imports.join(ModelImportRow, ModelImportRow.id == ModelImportFileRow.import_id)
        kinds = {
            "datasets": datasets.join(DatasetRow, DatasetRow.id == DatasetVersionRow.dataset_id),
            "models": models.join(ModelRow, ModelRow.id == ModelVersionRow.model_id),
            "checkpoints": checkpoints.select_from(CheckpointRow).join(JobRow, JobRow.id == CheckpointRow.job_id),
            "uploads": _uploads(),
            "imports": imports.where(ModelImportRow.completed_at.is_(None)),
        }
        found = [stored for kind, query in kinds.items() for stored in self._summed(reach, kind, query)]
        return sorted(found, key=lambda stored: (stored.owner, -stored.bytes))

    def old_models(self, *, older_than_s: float | None, bytes_max: int | None) -> Sequence[ModelVersionRow]:
        """Versions that are not the newest of their model and are too old, or beyond what each owner may keep.

        Counted from the newest; the oldest come first. Whether one is needed isn't looked at.
        """
        old = self._old(ModelVersionRow, ModelVersionRow.model_id, ModelRow, older_than_s, bytes_max)
        rows = select(ModelVersionRow).where(ModelVersionRow.id.in_(old)).order_by(ModelVersionRow.created_at)
        return self._session.scalars(rows).all()

    def old_datasets(self, *, older_than_s: float | None, bytes_max: int | None) -> Sequence[DatasetVersionRow]:
        """As `old_models`, of data sets."""
        old = self._old(DatasetVersionRow, DatasetVersionRow.dataset_id, DatasetRow, older_than_s, bytes_max)
        rows = select(DatasetVersionRow).where(DatasetVersionRow.id.in_(old)).order_by(DatasetVersionRow.created_at)
        return self._session.scalars(rows).all()

    def forget_events(self, *, ended_before_s: float, jobs_max: int = 20) -> int:
        """Deletes log, progress and metrics of jobs that ended longer ago; of how many jobs, at most `jobs_max`."""
        ended = JobRow.state.in_([str(state) for state in TERMINAL]), JobRow.finished_at < _ago(ended_before_s)
        jobs = select(JobRow.id).where(*ended, exists().where(JobEventRow.job_id == JobRow.id)).limit(jobs_max)
        ids = self._session.scalars(jobs).all()
        self._session.execute(delete(JobEventRow).where(JobEventRow.job_id.in_(ids)))
        return len(ids)

    def events_beyond(self, bytes_max: float) -> int:
        """How many events are more than fit into so many bytes, by PostgreSQL's statistics: no table is read.

        Live rows by their mean width: what deleted rows left behind counts for nothing. Without statistics it is 0.
        """
        rows, width_bytes = self._session.execute(_EVENT_STATISTICS).one()
        return max(0, int(rows - bytes_max / width_bytes)) if width_bytes else 0

    def forget_oldest_events(self, jobs_max: int = 20) -> tuple[int, int]:
        """As `forget_events`, of the jobs that ended first; of how many jobs, and how many events that were."""
        ended = JobRow.state.in_([str(state) for state in TERMINAL])
        jobs = select(JobRow.id).where(ended, exists().where(JobEventRow.job_id == JobRow.id))
        ids = self._session.scalars(jobs.order_by(JobRow.finished_at).limit(jobs_max)).all()
        gone = delete(JobEventRow).where(JobEventRow.job_id.in_(ids)).returning(JobEventRow.number)
        return len(ids), len(self._session.scalars(gone).all())

    def _summed(self, reach: Reach, kind: str, query: Select[tuple[int, UUID]]) -> list[Stored]:
        each = query.subquery()
        totals = select(OwnerRow.name, func.count(), func.sum(each.c.bytes)).join(each, each.c.whose == OwnerRow.id)
        rows = self._session.execute(totals.where(within(reach, OwnerRow.id)).group_by(OwnerRow.name))
        return [Stored(owner, kind, count, int(total or 0)) for owner, count, total in rows]

    def _old(
        self,
        versions: type[ModelVersionRow | DatasetVersionRow],
        of: InstrumentedAttribute[UUID],
        things: type[ModelRow | DatasetRow],
        older_than_s: float | None,
        bytes_max: int | None,
    ) -> Select[tuple[UUID]]:
        rank = func.row_number().over(partition_by=of, order_by=versions.version.desc())
        newest_first = (versions.created_at.desc(), versions.id)
        kept = func.sum(versions.bytes).over(partition_by=things.owner_id, order_by=newest_first)
        each = select(versions.id, versions.created_at, rank.label("rank"), kept.label("kept"))
        ranked = each.join(things, things.id == of).subquery()
        reasons = []
        if older_than_s is not None:
            reasons.append(ranked.c.created_at < _ago(older_than_s))
        if bytes_max is not None:
            reasons.append(ranked.c.kept > bytes_max)
        too_much = or_(*reasons) if reasons else ~true()
        return select(ranked.c.id).where(ranked.c.rank > 1, too_much)
