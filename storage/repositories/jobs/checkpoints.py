"""Complete checkpoints of jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobspecs.lifecycle import TERMINAL, JobState
from jobspecs.manifest import Manifest
from storage.tables import CheckpointRow, JobRow

_ENDED = [str(state) for state in TERMINAL]


class CheckpointRepository:
    """The checkpoints table. A row exists only once every file of the checkpoint is stored."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, job_id: UUID, fence: int, step: int, *, prefix: str, manifest: Manifest) -> bool:
        """Commits a checkpoint. False, and nothing written, when the fence is no longer the job's or the job ended.

        One of a later step than all before it is progress: what went wrong until then no longer counts against the job.
        """
        holds = select(JobRow.id).where(JobRow.id == job_id, JobRow.fence == fence, JobRow.state.not_in(_ENDED))
        if self._session.scalar(holds.with_for_update()) is None:
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
        self._lock(job_id)
        named = select(CheckpointRow.step).where(CheckpointRow.job_id == job_id, CheckpointRow.prefix == prefix)
        return self._session.execute(named).first() is not None

    def newest_first(self, job_id: UUID) -> Sequence[CheckpointRow]:
        """The job's checkpoints, the one furthest along first."""
        return self._session.scalars(
            select(CheckpointRow)
            .where(CheckpointRow.job_id == job_id)
            .order_by(CheckpointRow.step.desc(), CheckpointRow.fence.desc())
        ).all()

    def adopt(self, retried: UUID, retry: UUID) -> int | None:
        """Lets a retry go on from what an ended job has stored; returns the furthest step, None when there is nothing.

        The objects stay where they are: they go when no row names them any more. The caller holds the ended job's lock,
        so that nothing expires meanwhile. Adopted rows have fence 0, below that of any attempt.
        """
        rows = self.newest_first(retried)
        for row in rows:
            values = {"job_id": retry, "fence": 0, "step": row.step, "prefix": row.prefix, "manifest": row.manifest}
            self._session.execute(insert(CheckpointRow).values(values).on_conflict_do_nothing())
        return rows[0].step if rows else None

    def expire(self, *, kept_s: float) -> list[CheckpointRow]:
        """Forgets the checkpoints of jobs that have succeeded, or have ended otherwise more than `kept_s` seconds ago.

        Returns those that no other job names: the caller writes their objects down as garbage. A job that is being
        retried just now is passed over.
        """
        since = func.clock_timestamp() - text("make_interval(secs => :s)").bindparams(s=kept_s)
        over = (JobRow.state == JobState.succeeded) | (JobRow.state.in_(_ENDED) & (JobRow.finished_at <= since))
        jobs = select(JobRow.id).where(over, JobRow.id.in_(select(CheckpointRow.job_id)))
        expired = self._session.scalars(jobs.with_for_update(skip_locked=True, of=JobRow)).all()
        return self._drop(self._session.scalars(select(CheckpointRow).where(CheckpointRow.job_id.in_(expired))).all())

    def forget(self, job_id: UUID, *, keep: int) -> list[CheckpointRow]:
        """Forgets all but the newest `keep`; returns those that no other job names, whose objects may go.

        Locks the job, as `add`, `expire` and whoever adopts from it do: of what a retry is adopting, nothing may go.
        """
        self._lock(job_id)
        return self._drop(self.newest_first(job_id)[keep:])

    def unneeded(self, stored: Mapping[str, UUID]) -> list[str]:
        """Those of the stored prefixes (prefix -> job) that an ended job left behind and no row names."""
        ended = select(JobRow.id).where(JobRow.id.in_(set(stored.values())), JobRow.state.in_(_ENDED))
        over, named = set(self._session.scalars(ended)), self._named(stored.keys())
        return [prefix for prefix, job_id in stored.items() if job_id in over and prefix not in named]

    def _lock(self, job_id: UUID) -> None:
        self._session.execute(select(JobRow.id).where(JobRow.id == job_id).with_for_update(of=JobRow))

    def _drop(self, rows: Sequence[CheckpointRow]) -> list[CheckpointRow]:
        for row in rows:
            self._session.delete(row)
        self._session.flush()
        named = self._named({row.prefix for row in rows})
        return [row for row in rows if row.prefix not in named]

    def _named(self, prefixes: Collection[str]) -> set[str]:
        return set(self._session.scalars(select(CheckpointRow.prefix).where(CheckpointRow.prefix.in_(prefixes))))
