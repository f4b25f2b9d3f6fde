"""How deployments answer, counted here and written down every few seconds for all replicas of the API together."""

from __future__ import annotations

import logging
import threading

from storage.database import Database, DatabaseUnavailable
from storage.repositories.serving.answers import Answered, AnswerKey, AnswerTotal

log = logging.getLogger(__name__)

#: Seconds between two writes.
WRITE_EVERY_S = 2.0
#: Beyond so many different counts, while the database is away, new ones are dropped: they are figures, not facts.
_KEYS_MAX = 10_000


class AnswerMeter:
    """Counts answers until they are written."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._totals: dict[AnswerKey, AnswerTotal] = {}
        self._lock = threading.Lock()

    def note(self, answered: Answered, duration_s: float, failed: bool) -> None:
        self._add(AnswerKey.of(answered, duration_s, failed=failed), AnswerTotal(1, duration_s))

    def write(self) -> None:
        """Writes what was counted; while the database is away it stays to be written."""
        with self._lock:
            totals, self._totals = self._totals, {}
        if not totals:
            return
        try:
            with self._database.unit_of_work() as work:
                work.answers.add(totals)
        except DatabaseUnavailable as error:
            log.warning("how deployments answer is not written down yet: %s", error)
            for key, total in totals.items():
                self._add(key, total)

    def _add(self, key: AnswerKey, total: AnswerTotal) -> None:
        with self._lock:
            if key in self._totals or len(self._totals) < _KEYS_MAX:
                self._totals[key] = self._totals.get(key, AnswerTotal()) + total
