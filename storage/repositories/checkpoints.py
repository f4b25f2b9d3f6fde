"""Complete checkpoints of jobs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobspecs.lifecycle import TERMINAL
from jobspecs.manifest import Manifest
from storage.tables import CheckpointRow, JobRow


class CheckpointRepository:
    """The checkpoints table. A row exists only once every file of the checkpoint is stored."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, job_id: UUID, fence: int, step: int, *, prefix: str, manifest: Manifest) -> bool:
        """Commits a checkpoint. False, and nothing written, when the fence is no longer the job's.

        One of a later step than all before it is progress: what went wrong until then no longer counts against the job.
        """
        current = self._session.scalar(select(JobRow.fence).where(JobRow.id == job_id).with_for_update())
        if current != fence:
            return False
        furthest = self._session.scalar(select(func.max(CheckpointRow.step)).where(CheckpointRow.job_id == job_id))
        if furthest is None or step > furthest:
            no_losses = {JobRow.crash_count: 0, JobRow.host_losses: 0}
            self._session.execute(update(JobRow).where(JobRow.id == job_id).values(no_losses))
        self._session.execute(
            insert(CheckpointRow)
            .values(job_id=job_id, fence=fence, step=step, prefix=prefix, manifest=manifest.model_dump(mode="json"))
            .on_conflict_do_nothing()
        )
        return True

    def is_named(self, job_id: UUID, prefix: str) -> bool:
        """Whether the checkpoint stored under `prefix` was committed. Waits for a commit that is still under way."""
        self._session.execute(select(JobRow.id).where(JobRow.id == job_id).with_for_update(of=JobRow))
        named = select(CheckpointRow.step).where(CheckpointRow.job_id == job_id, CheckpointRow.prefix == prefix)
        return self._session.execute(named).first() is not None

    def newest_first(self, job_id: UUID) -> Sequence[CheckpointRow]:
        """The job's checkpoints, the one furthest along first."""
        return self._session.scalars(
            select(CheckpointRow)
            .where(CheckpointRow.job_id == job_id)
            .order_by(CheckpointRow.step.desc(), CheckpointRow.fence.desc())
        ).all()

    def jobs_to_sweep(self, found: Collection[UUID]) -> Sequence[UUID]:
        """Jobs that have ended, so that nobody will resume them: of those with checkpoints, and of the `found` ones."""
        candidate = JobRow.id.in_(select(CheckpointRow.job_id)) | JobRow.id.in_(found)
        ended = JobRow.state.in_([str(state) for state in TERMINAL])
        return self._session.scalars(select(JobRow.id).where(ended, candidate)).all()

    def forget(self, rows: Sequence[CheckpointRow]) -> None:
        """Deletes the rows; the caller has deleted the objects before."""
        for row in rows:
            self._session.execute(
                delete(CheckpointRow).where(
                    CheckpointRow.job_id == row.job_id,
                    CheckpointRow.fence == row.fence,
                    CheckpointRow.step == row.step,
                )
            )
