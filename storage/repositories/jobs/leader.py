"""Who leads, for those who want to know whether anything is scheduled."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.tables import SchedulerLeaderRow


@dataclass(frozen=True)
class Leader:
    """The scheduler that leads or led last: `host:pid`, and ages in seconds by the database's clock."""

    name: str
    leads_for_s: float
    #: Since it last looked at the queue; a living leader does so every few seconds.
    silent_for_s: float
    #: Looks at the queue of all leaders so far, and the seconds that they took together.
    ticks: int
    ticks_s: float


class LeaderRepository:
    """Reads what the leading scheduler writes (`storage.leadership`)."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def newest(self) -> Leader | None:
        """None when no scheduler has ever led."""
        since, beat = (
            func.extract("epoch", func.clock_timestamp() - column)
            for column in (SchedulerLeaderRow.since, SchedulerLeaderRow.beat_at)
        )
        columns = (SchedulerLeaderRow.name, since, beat, SchedulerLeaderRow.ticks, SchedulerLeaderRow.ticks_s)
        row = self._session.execute(select(*columns)).one_or_none()
        return None if row is None else Leader(row[0], float(row[1]), float(row[2]), row[3], row[4])
