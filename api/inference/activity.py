"""Which deployments are being asked, for those that sleep when nobody asks."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from uuid import UUID

from fastapi.concurrency import run_in_threadpool

from storage.database import Database, DatabaseUnavailable
from storage.repositories.serving.sleep import STAMP_S

log = logging.getLogger(__name__)


class Activity:
    """Notes in memory what is asked, and writes it down together, so that no request waits for a write."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._in_hand: Counter[UUID] = Counter()
        self._asked: set[UUID] = set()

    @contextmanager
    def of(self, deployment_ids: Collection[UUID]) -> Iterator[None]:
        """While a request is in hand: however long its answer is, the deployment is in use."""
        self._asked.update(deployment_ids)
        self._in_hand.update(deployment_ids)
        try:
            yield
        finally:
            self._in_hand.subtract(deployment_ids)
            self._in_hand += Counter()  # only those with any stay
            self._asked.update(deployment_ids)

    async def write(self) -> None:
        """Stamps what was asked since the last time and what is in hand."""
        used, self._asked = self._asked | set(self._in_hand), set()
        if not used:
            return
        try:
            await run_in_threadpool(self._note_use, used)
        except DatabaseUnavailable as error:
            log.warning("the use of %d deployments was not written down yet: %s", len(used), error)
            self._asked |= used

    def _note_use(self, used: Collection[UUID]) -> None:
        with self._database.unit_of_work() as work:
            work.sleep.note_use(used)

    async def write_on(self) -> None:
        while True:
            await asyncio.sleep(STAMP_S)
            await self.write()
