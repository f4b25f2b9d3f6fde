"""Follows a job from a place in its history to its end: first what PostgreSQL has, then live from Redis.

PostgreSQL is the truth and gets events in batches about once a second; Redis has them at once, may lack some (it was
away, it was emptied, the stream was trimmed), and may be absent. So an event from Redis is passed on only when it is
the very next one; at any gap PostgreSQL is read first. State changes always come from PostgreSQL.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi.concurrency import run_in_threadpool

from api.errors import not_found
from api.jobs.cursors import Happening, Position
from api.jobs.presenting import state_change
from api.parts import Parts
from jobspecs.events import RecordedEvent, StateChange
from jobspecs.lifecycle import TERMINAL, JobState
from jobspecs.rights import Principal
from storage.database import DatabaseUnavailable

log = logging.getLogger(__name__)

#: Events read from PostgreSQL at once.
PAGE_EVENTS = 500
#: Seconds after which a gap in the live events is passed over: its events are lost for good by then.
_GAP_PATIENCE_S = 5.0
_GAP_LOOK_S = 0.25
#: Seconds beyond its own limit that a read from Redis may take before Redis counts as absent.
_REDIS_GRACE_S = 1.0
#: Seconds for which an absent Redis is not asked again.
_REDIS_ABSENT_S = 5.0


@dataclass(frozen=True)
class Page:
    """A stretch of history in order, and where it ends."""

    happenings: Sequence[Happening]
    position: Position
    #: More lies behind it already.
    has_more: bool
    #: The state that the job ended in, once everything before it has been read.
    ended: StateChange | None


@dataclass(frozen=True)
class Told:
    """Something that happened, with the place behind it; None: nothing happened for a while."""

    happening: Happening | None
    position: Position


def read_page(parts: Parts, user: Principal, job_id: UUID, position: Position, limit: int = PAGE_EVENTS) -> Page:
    """What follows `position` in PostgreSQL. Raises ApiError 404 when the user has no such job."""
    with parts.database.unit_of_work() as work:
        row = work.jobs.find(user.reach("jobs.read"), job_id)
        if row is None:
            raise not_found(f"job {job_id}")
        # In this order: an event that was written before the last transition is then in what is read next.
        ended = JobState(row.state) in TERMINAL
        # A watcher that has them all still wants to know how it ended.
        known_seq = min(position.seq, row.transition_seq - ended)
        steps = work.jobs.transitions_after(job_id, known_seq) if row.transition_seq > known_seq else []
        events = work.events.after(job_id, position.fence, position.number, limit=limit + 1)
    last = state_change(steps[-1]) if steps else None
    changes = [state_change(step) for step in steps if step.seq > position.seq]
    has_more = len(events) > limit
    events = events[:limit]
    if has_more:
        changes = [change for change in changes if change.at <= events[-1].at]
    happenings: list[Happening] = list(heapq.merge(changes, events, key=_time))
    for happening in happenings:
        position = position.after(happening)
    is_last = last is not None and JobState(last.state) in TERMINAL and not has_more
    return Page(happenings, position, has_more, last if is_last else None)


def _time(happening: Any) -> datetime:
    at: datetime = happening.at
    return at


class Follower:
    """One watcher of one job."""

    def __init__(self, parts: Parts, user: Principal, job_id: UUID, position: Position) -> None:
        self._parts = parts
        self._user = user
        self._job_id = job_id
        self.position = position
        self.ended: StateChange | None = None
        self._redis_absent_until_s = 0.0
        self._gap_since_s: float | None = None

    async def follow(self) -> AsyncIterator[Told]:
        """Yields everything once and in order, and nothing-happened now and then; returns when the job has ended.

        It also returns, with `ended` unset, when the process shall end; the watcher then comes back with its cursor.
        """
        looked_at_s = 0.0
        live: list[RecordedEvent] | None = None
        while self.ended is None and not self._parts.stopping.is_set():
            if live is None or time.monotonic() - looked_at_s >= self._parts.settings.watch_poll_s / 2:
                looked_at_s = time.monotonic()
                if live is None or await self._has_news():
                    async for told in self._stored():
                        yield told
                if self.ended is not None:
                    return
            live = await self._wait()
            for event in self._consecutive(live or []):
                yield self._tell(event)
            if live and self._behind(live):
                # Something lies between: PostgreSQL has it, or will have it in a moment.
                live = None
                await asyncio.sleep(_GAP_LOOK_S)
            yield Told(None, self.position)

    async def _has_news(self) -> bool:
        """Whether PostgreSQL has more: state changes, and what a worker could not write to Redis."""
        try:
            newest = await self._parts.job_looks.newest(self._job_id)
        except DatabaseUnavailable as error:
            self._wait_for_database(error)
            return False
        place = self.position
        # Of one that is gone the reading says so.
        return newest is None or newest.seq > place.seq or (newest.fence, newest.number) > (place.fence, place.number)

    def _wait_for_database(self, error: DatabaseUnavailable) -> None:
        log.warning("a watcher of job %s waits for the database: %s", self._job_id, error)
        # Nobody was asked for what is missing: it is not lost yet.
        self._gap_since_s = None

    async def _stored(self) -> AsyncIterator[Told]:
        while True:
            try:
                page = await run_in_threadpool(read_page, self._parts, self._user, self._job_id, self.position)
            except DatabaseUnavailable as error:
                self._wait_for_database(error)
                await asyncio.sleep(self._parts.settings.watch_poll_s)
                return
            for happening in page.happenings:
                if isinstance(happening, RecordedEvent):
                    self._gap_since_s = None
                yield self._tell(happening)
            self.ended = page.ended
            if not page.has_more:
                return

    async def _wait(self) -> list[RecordedEvent] | None:
        """Live events behind the position; None when only PostgreSQL can tell."""
        poll_s = self._parts.settings.watch_poll_s * self._parts.watchers.patience
        if time.monotonic() >= self._redis_absent_until_s:
            waiting = self._parts.watcher.wait(
                self._job_id, self.position.fence, self.position.number, timeout_s=poll_s
            )
            try:
                # A Redis that is stopped, not gone, would keep the read waiting for ever.
                live = await asyncio.wait_for(waiting, poll_s + _REDIS_GRACE_S)
            except TimeoutError:
                live = None
            if live is not None:
                return live
            self._redis_absent_until_s = time.monotonic() + _REDIS_ABSENT_S
        await asyncio.sleep(poll_s)
        return None

    def _consecutive(self, live: Sequence[RecordedEvent]) -> list[RecordedEvent]:
        """The live events up to the first gap."""
        place, found = self.position, []
        for event in live:
            if not place.is_next(event) and not (event is live[0] and self._acceptable(event)):
                break
            place = place.after(event)
            found.append(event)
        if found:
            self._gap_since_s = None
        return found

    def _acceptable(self, event: RecordedEvent) -> bool:
        """Whether an event behind a gap may be passed on: PostgreSQL was asked for long enough."""
        if self._gap_since_s is None:
            return False
        starts_attempt = event.fence > self.position.fence and event.number <= 1
        return starts_attempt or time.monotonic() - self._gap_since_s >= _GAP_PATIENCE_S

    def _behind(self, live: Sequence[RecordedEvent]) -> bool:
        """Whether live events are left that could not be passed on; notes since when."""
        last = live[-1]
        if (last.fence, last.number) <= (self.position.fence, self.position.number):
            return False
        if self._gap_since_s is None:
            self._gap_since_s = time.monotonic()
        return True

    def _tell(self, happening: Happening) -> Told:
        self.position = self.position.after(happening)
        return Told(happening, self.position)
