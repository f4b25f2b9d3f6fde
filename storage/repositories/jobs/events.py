"""What children said, kept for good. Live watching goes through `storage.progress`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import and_, or_, select, true, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobspecs.events import CHILD_EVENT, RecordedEvent
from storage.tables import JobEventRow, JobRow


@dataclass(frozen=True)
class Newest:
    """The last transition of a job, and its last event; number -1 where it has none."""

    seq: int
    fence: int = 0
    number: int = -1


class EventRepository:
    """The job_events table."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, job_id: UUID, fence: int, events: Sequence[RecordedEvent]) -> bool:
        """Writes a batch. False, and nothing written, when the fence is no longer the job's."""
        current = self._session.scalar(select(JobRow.fence).where(JobRow.id == job_id).with_for_update(read=True))
        if current != fence:
            return False
        if events:
            rows = [
                {
                    "job_id": job_id,
                    "fence": event.fence,
                    "number": event.number,
                    "at": event.at,
                    "event": event.event.model_dump(mode="json"),
                }
                for event in events
            ]
            self._session.execute(insert(JobEventRow).values(rows).on_conflict_do_nothing())
        return True

    def after(
        self, job_id: UUID, fence: int = 0, number: int = -1, *, limit: int = 1000, kinds: Sequence[str] = ()
    ) -> list[RecordedEvent]:
        """Events after (fence, number) in order, of the given types when there are any."""
        query = select(JobEventRow).where(
            JobEventRow.job_id == job_id, tuple_(JobEventRow.fence, JobEventRow.number) > (fence, number)
        )
        if kinds:
            query = query.where(JobEventRow.event["type"].astext.in_(kinds))
        rows = self._session.scalars(query.order_by(JobEventRow.fence, JobEventRow.number).limit(limit))
        return [_recorded(row) for row in rows]

    def before(self, job_id: UUID, fence: int, number: int, *, limit: int) -> list[RecordedEvent]:
        """What people follow, up to and with (fence, number), the newest first: all but plain log lines, and of
        progress only that with a loss.
        """
        kind, event = JobEventRow.event["type"].astext, JobEventRow.event
        told = or_(
            kind.in_(("stage", "metric", "checkpoint", "failure")),
            and_(kind == "progress", event["loss"].astext.is_not(None)),
            and_(kind == "log", event["level"].astext.in_(("warning", "error"))),
        )
        query = select(JobEventRow).where(
            JobEventRow.job_id == job_id, tuple_(JobEventRow.fence, JobEventRow.number) <= (fence, number), told
        )
        rows = self._session.scalars(query.order_by(JobEventRow.fence.desc(), JobEventRow.number.desc()).limit(limit))
        return [_recorded(row) for row in rows]

    def newest_of(self, job_ids: Collection[UUID]) -> dict[UUID, Newest]:
        """The last that there is of each of the jobs."""
        event = JobEventRow
        last = select(event.fence, event.number).where(event.job_id == JobRow.id)
        each = last.order_by(event.fence.desc(), event.number.desc()).limit(1).lateral()
        query = select(JobRow.id, JobRow.transition_seq, each.c.fence, each.c.number).outerjoin(each, true())
        rows = self._session.execute(query.where(JobRow.id.in_(job_ids)))
        return {row.id: Newest(row.transition_seq, *((row.fence, row.number) if row.fence else ())) for row in rows}

    def newest(self, job_id: UUID, kind: str) -> RecordedEvent | None:
        """The last event of one type, such as `progress`."""
        row = self._session.scalars(
            select(JobEventRow)
            .where(JobEventRow.job_id == job_id, JobEventRow.event["type"].astext == kind)
            .order_by(JobEventRow.fence.desc(), JobEventRow.number.desc())
            .limit(1)
        ).first()
        return None if row is None else _recorded(row)


def _recorded(row: JobEventRow) -> RecordedEvent:
    return RecordedEvent(fence=row.fence, number=row.number, at=row.at, event=CHILD_EVENT.validate_python(row.event))
