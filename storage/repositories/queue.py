"""What is read of many jobs at once: the queue, what hosts hold, and figures. Nothing here writes."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from jobspecs.lifecycle import ACTIVE, JobState
from storage.tables import DatasetVersionRow, JobRow, ModelVersionRow

#: So many earlier jobs tell how fast the next one will be.
_SPEEDS_MAX = 20


class QueueRepository:
    """The jobs table, as the scheduler, hosts and operators look at it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def waiting(self, limit: int = 10_000) -> Sequence[JobRow]:
        """Queued jobs that may start now, in queue order."""
        due = JobRow.not_before.is_(None) | (JobRow.not_before <= func.clock_timestamp())
        return self._session.scalars(
            select(JobRow)
            .where(JobRow.state == JobState.queued, due)
            .order_by(JobRow.priority.desc(), JobRow.submitted_order)
            .limit(limit)
        ).all()

    def active(self, host: str | None = None) -> Sequence[JobRow]:
        """Jobs that some host, or this one, holds."""
        query = select(JobRow).where(JobRow.state.in_([str(state) for state in ACTIVE]))
        if host is not None:
            query = query.where(JobRow.host == host)
        return self._session.scalars(query.order_by(JobRow.submitted_order)).all()

    def count_by_state(self) -> dict[str, int]:
        rows = self._session.execute(select(JobRow.state, func.count()).group_by(JobRow.state))
        return {state: count for state, count in rows}

    def oldest_queued_age_s(self) -> float:
        """Seconds since the submission of the job that has been queued longest; 0 when none is."""
        age = func.extract("epoch", func.clock_timestamp() - func.min(JobRow.created_at))
        return float(self._session.scalar(select(age).where(JobRow.state == JobState.queued)) or 0.0)

    def speeds(self, kind: str, model_digest: str | None, *, gpus: int) -> list[float]:
        """Operations per second that the newest finished jobs of this kind, base model and number of GPUs reached.

        A model of a hub has no digest: then jobs on any model count.
        """
        manifests = (ModelVersionRow.manifest, DatasetVersionRow.manifest)
        speed = func.coalesce(
            *(manifest["report"]["duration"]["operations_per_s"].as_float() for manifest in manifests)
        )
        query = (
            select(speed)
            .select_from(JobRow)
            .outerjoin(ModelVersionRow, ModelVersionRow.job_id == JobRow.id)
            .outerjoin(DatasetVersionRow, DatasetVersionRow.job_id == JobRow.id)
            .where(JobRow.kind == kind, JobRow.gpus == gpus, JobRow.state == JobState.succeeded, speed > 0)
        )
        if model_digest is not None:
            query = query.where(JobRow.inputs["model"]["digest"].as_string() == model_digest)
        newest = query.order_by(JobRow.submitted_order.desc()).limit(_SPEEDS_MAX)
        return [float(value) for value in self._session.scalars(newest)]
