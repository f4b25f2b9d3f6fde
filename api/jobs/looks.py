"""What the database has of the jobs that are watched, asked once for all watchers of a process: a thousand quiet
streams are a few queries in a second, where each would have one of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from uuid import UUID

from fastapi.concurrency import run_in_threadpool

from storage.database import Database
from storage.repositories.jobs.events import Newest


class JobLooks:
    """Of one event loop."""

    def __init__(self, database: Database, every_s: float) -> None:
        """`every_s`: how old an answer may be."""
        self._database, self._every_s = database, every_s
        #: Asked for since the last look, and between the two before.
        self._asking: set[UUID] = set()
        self._asked: set[UUID] = set()
        #: Whom the last look was at, what it found, and when it ended, by the loop's clock.
        self._known: Collection[UUID] = ()
        self._found: dict[UUID, Newest] = {}
        self._at_s = float("-inf")
        self._look: asyncio.Task[None] | None = None

    async def newest(self, job_id: UUID) -> Newest | None:
        """The last that is stored of the job; None when it is gone. Raises DatabaseUnavailable."""
        self._asking.add(job_id)
        is_old = asyncio.get_running_loop().time() - self._at_s >= self._every_s
        while is_old or job_id not in self._known:
            if self._look is None or self._look.done():
                self._look = asyncio.create_task(self._look_at_all())
            # Without `shield` a watcher that leaves would end it for all.
            await asyncio.shield(self._look)
            is_old = False
        return self._found.get(job_id)

    async def _look_at_all(self) -> None:
        # Whoever asked in the last round is about to ask again, and is looked at with the first who does.
        job_ids = self._asking | self._asked
        self._asked, self._asking = self._asking, set()
        self._found = await run_in_threadpool(self._read, job_ids)
        self._known, self._at_s = job_ids, asyncio.get_running_loop().time()

    def _read(self, job_ids: Collection[UUID]) -> dict[UUID, Newest]:
        with self._database.reading() as work:
            return work.events.newest_of(job_ids)
