"""What attempts left behind in the object store: which have still to be looked at, by what the database says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from jobspecs.lifecycle import TERMINAL
from storage.tables import DatasetVersionRow, JobRow, ModelVersionRow

_ENDED = [str(state) for state in TERMINAL]


class UnsweptJob(NamedTuple):
    """An ended job; `good_fence` is that of the attempt whose files are its result, None without one."""

    job_id: UUID
    submitted_order: int
    fence: int
    good_fence: int | None


class AttemptRepository:
    """The jobs table, as the housekeeper looks at it. A job that has ended gets no further attempt."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def unswept(self, *, after: int, limit: int) -> Sequence[UnsweptJob]:
        """A page of ended jobs with attempts that may have left files, in order of submission, behind `after`."""
        fence = func.coalesce(ModelVersionRow.fence, DatasetVersionRow.fence)
        query = select(JobRow.id, JobRow.submitted_order, JobRow.fence, fence)
        query = query.outerjoin(ModelVersionRow, ModelVersionRow.job_id == JobRow.id)
        query = query.outerjoin(DatasetVersionRow, DatasetVersionRow.job_id == JobRow.id)
        query = query.where(JobRow.state.in_(_ENDED), JobRow.fence > JobRow.swept_fence)
        query = query.where(JobRow.submitted_order > after).order_by(JobRow.submitted_order).limit(limit)
        return [UnsweptJob(*row) for row in self._session.execute(query)]

    def mark_swept(self, job_id: UUID, *, settled_s: float) -> None:
        """They need not be looked at again, if the job ended more than `settled_s` seconds ago.

        Until then a host that lost its lease may yet finish a request to the object store.
        """
        settled = func.clock_timestamp() - text("make_interval(secs => :s)").bindparams(s=settled_s)
        self._session.execute(
            update(JobRow)
            .where(JobRow.id == job_id, JobRow.state.in_(_ENDED), JobRow.finished_at <= settled)
            .values(swept_fence=JobRow.fence)
        )
