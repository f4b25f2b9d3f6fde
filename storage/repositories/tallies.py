"""Counts what happens, in the transaction in which it happens."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from jobspecs.lifecycle import ACTIVE, TERMINAL, JobState, Reason
from storage.tables import JobRow, TallyRow

Event = Literal[
    "job_submitted",
    "job_ended",
    "attempt_started",
    "attempt_ended",
    "lease_expired",
    "prompt_tokens",
    "generated_tokens",
]

#: Upper bounds, in seconds, of the buckets in which durations of jobs are counted: from ten seconds to a day.
DURATION_BUCKETS_S = (10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0, 86400.0, float("inf"))
#: Rows that one fold takes at most.
_FOLDED_MAX = 100_000

_FOLD = text("""
WITH taken AS (
    DELETE FROM tallies WHERE id IN (SELECT id FROM tallies ORDER BY id LIMIT :rows_max FOR UPDATE SKIP LOCKED)
    RETURNING event, kind, state, reason, seconds_max, count, seconds
)
INSERT INTO tallies (event, kind, state, reason, seconds_max, count, seconds)
SELECT event, kind, state, reason, seconds_max, sum(count), sum(seconds) FROM taken
GROUP BY event, kind, state, reason, seconds_max
""").bindparams(rows_max=_FOLDED_MAX)


@dataclass(frozen=True, slots=True)
class Total:
    """How often it has happened so far; fields as those of `TallyRow`."""

    event: str
    kind: str
    state: str
    reason: str
    seconds_max: float | None
    count: int
    seconds: float


class TallyRepository:
    """The tallies table."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, event: Event, *, kind: str = "", count: int = 1) -> None:
        """It has happened `count` times more."""
        self._session.add(TallyRow(event=event, kind=kind, count=count))

    def step(self, job: JobRow, source: JobState, target: JobState, reason: Reason | None) -> None:
        """The job went from `source` to `target`: what of it begins or ends is counted."""
        if target is JobState.assigned:
            self.add("attempt_started", kind=job.kind)
        why = "" if reason is None else reason.value
        if source in ACTIVE and target not in ACTIVE:
            self._session.add(
                TallyRow(event="attempt_ended", kind=job.kind, state=target.value, reason=why, count=1, seconds=0.0)
            )
        if target in TERMINAL:
            duration_s = None
            if job.started_at is not None and job.finished_at is not None:
                duration_s = (job.finished_at - job.started_at).total_seconds()
            self._session.add(
                TallyRow(
                    event="job_ended",
                    kind=job.kind,
                    state=target.value,
                    reason=why,
                    seconds_max=None if duration_s is None else bucket_s(duration_s),
                    count=1,
                    seconds=duration_s or 0.0,
                )
            )

    def fold(self) -> None:
        """Makes one row of those that differ in nothing but their count. Any number of processes may fold at once."""
        self._session.execute(_FOLD)

    def totals(self) -> Sequence[Total]:
        """What has happened so far, since the table was made."""
        columns = (TallyRow.event, TallyRow.kind, TallyRow.state, TallyRow.reason, TallyRow.seconds_max)
        rows = self._session.execute(
            select(*columns, func.sum(TallyRow.count), func.sum(TallyRow.seconds)).group_by(*columns)
        )
        return [Total(*row[:5], int(row[5]), float(row[6])) for row in rows]


def bucket_s(duration_s: float) -> float:
    """The smallest of DURATION_BUCKETS_S that is not below the duration."""
    return DURATION_BUCKETS_S[bisect_left(DURATION_BUCKETS_S, duration_s)]
