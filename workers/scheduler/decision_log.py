"""Keeps a sample of decisions: what was known and what was done, for a day."""

from __future__ import annotations

import time
from collections.abc import Callable

from scheduling.decisions import Action, Snapshot
from storage.database import Database

#: Seconds between two kept decisions at least, and how long they are kept: at most 1,440 of 35 kB at the most each.
EVERY_S = 60.0
KEEP_S = 24 * 3600.0


class DecisionLog:
    """Stores one decision a minute, where anything waited."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._kept_at = float("-inf")

    def keep(self, snapshot: Snapshot, actions: list[Action]) -> None:
        """Stores the decision, unless one was stored within the last minute or nothing waited."""
        now = self._clock()
        if not snapshot.waiting or now - self._kept_at < EVERY_S:
            return
        self._kept_at = now
        with self._database.unit_of_work() as work:
            work.decisions.keep(snapshot, actions, keep_s=KEEP_S)
