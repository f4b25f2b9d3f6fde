"""Deletes what nothing names any more: checkpoints of ended jobs, transfers that broke off, imports nobody completed.

Rows go first, objects afterwards: what is left behind by a crash in between is invisible, never half there. Any number
of workers may sweep at the same time.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from storage.database import Database, DatabaseUnavailable
from storage.objects import ObjectStore, ObjectStoreError

log = logging.getLogger(__name__)

#: Seconds between two sweeps.
SWEEP_EVERY_S = 3600.0
#: A multipart upload that was begun longer ago than this is not running any more.
UPLOAD_STALE = timedelta(hours=24)
#: An import that was begun longer ago than this is given up.
IMPORT_STALE = timedelta(days=7)


@dataclass(frozen=True)
class Swept:
    """How many of each were deleted."""

    checkpoints: int
    uploads: int
    imports: int


class Housekeeper:
    """Sweeps in a thread of its own, at the start and then every hour."""

    def __init__(self, database: Database, store: ObjectStore) -> None:
        self._database = database
        self._store = store
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns once a sweep under way has ended, or after a few seconds."""
        self._stopping.set()
        self._thread.join(timeout=5.0)

    def sweep(self, now: datetime | None = None) -> Swept:
        """One sweep. Raises DatabaseUnavailable and ObjectStoreError; the next sweep does what is left."""
        return Swept(
            checkpoints=self._sweep_checkpoints(),
            uploads=self._sweep_uploads((now or datetime.now(UTC)) - UPLOAD_STALE),
            imports=self._sweep_imports(),
        )

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                swept = self.sweep()
            except (DatabaseUnavailable, ObjectStoreError) as error:
                log.warning("housekeeping waits: %s", error)
            else:
                log.info("housekeeping: %s", swept)
            self._stopping.wait(SWEEP_EVERY_S)

    def _sweep_checkpoints(self) -> int:
        with self._database.unit_of_work() as work:
            rows = work.checkpoints.of_ended_jobs()
            work.checkpoints.forget(rows)
        for row in rows:
            self._store.delete(row.prefix)
        return len(rows)

    def _sweep_uploads(self, begun_before: datetime) -> int:
        stale = [upload for upload in self._store.abandoned_uploads() if upload.started_at < begun_before]
        for upload in stale:
            self._store.abort_upload(upload)
        return len(stale)

    def _sweep_imports(self) -> int:
        with self._database.unit_of_work() as work:
            stale = work.models.stale_imports(IMPORT_STALE.total_seconds())
            given_up = [row.id for row in stale if work.models.forget_import(row.id)]
        for import_id in given_up:
            self._store.delete(f"models/{import_id}")
        return len(given_up)
