"""Deletes what nothing names any more: what people deleted, pushes that never became a version, checkpoints of ended
jobs, files of broken attempts, transfers that broke off, imports nobody completed.

What could not be deleted is found again: rows that lead to objects go after them, or are written down as garbage.
Any number of workers may sweep at the same time.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from jobspecs.manifest import Manifest
from storage.database import Database, DatabaseUnavailable
from storage.objects import ObjectStore, ObjectStoreError
from storage.repositories.registry.garbage import SETTLED_S
from storage.settings import Settings
from workers.agent.retention import Retention, apply_retention
from workers.agent.unnamed import UnnamedSweep

log = logging.getLogger(__name__)

#: Seconds between two sweeps.
SWEEP_EVERY_S = 3600.0
#: Seconds between two looks at the garbage: one query of an index when there is none.
GARBAGE_EVERY_S = 15.0
#: A multipart upload that was begun longer ago than this is not running any more.
UPLOAD_STALE = timedelta(hours=24)
#: Jobs read at once.
PAGE_JOBS = 200
#: An import that was begun longer ago than this is given up; after a day, when nothing comes for it any more.
IMPORT_STALE = timedelta(days=7)


@dataclass(frozen=True)
class Swept:
    """How many of each were deleted; of garbage, checkpoints and attempts, the objects.

    `unnamed`: prefixes that nothing names, found in the store and written down as garbage. `old`: versions that
    retention deleted, and jobs whose events it did.
    """

    garbage: int
    checkpoints: int
    attempts: int
    uploads: int
    imports: int
    unnamed: int
    old: int


class Housekeeper:
    """Sweeps in a thread of its own, at the start and then every hour; garbage goes within seconds."""

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        *,
        checkpoints_kept_s: float = Settings.checkpoints_kept_s,
        retention: Retention | None = None,
    ) -> None:
        self._database = database
        self._store = store
        self._checkpoints_kept_s = checkpoints_kept_s
        self._retention = retention or Retention()
        self._unnamed = UnnamedSweep(database, store)
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
        if now is None:
            with self._database.unit_of_work() as work:
                now = work.hosts.clock()
        return Swept(
            garbage=self.sweep_garbage(),
            checkpoints=self._sweep_checkpoints(),
            attempts=self._sweep_attempts(),
            uploads=self._sweep_uploads(now - UPLOAD_STALE),
            imports=self._sweep_imports(),
            unnamed=self._unnamed.run(now),
            old=apply_retention(self._database, self._retention),
        )

    def sweep_garbage(self) -> int:
        """Deletes the objects whose time has come. What can't be deleted now is tried again later, less and less often.

        Raises DatabaseUnavailable.
        """
        deleted = 0
        while True:
            with self._database.unit_of_work() as work:
                work.blobs.write_down()
                claimed = work.garbage.claim()
                named = work.garbage.named(claimed)
            for prefix in claimed:
                if prefix in named:
                    log.error("%s was to be deleted and is still named: it stays", prefix)
                else:
                    try:
                        deleted += self._store.delete(prefix)
                    except ObjectStoreError as error:
                        log.warning("%s is not deleted yet: %s", prefix, error)
                        continue
                with self._database.unit_of_work() as work:
                    work.garbage.forget(prefix)
            if not claimed or self._stopping.is_set():
                return deleted

    def _run(self) -> None:
        next_sweep_s = time.monotonic()
        while not self._stopping.is_set():
            whole = time.monotonic() >= next_sweep_s
            try:
                swept = self.sweep() if whole else self.sweep_garbage()
            except (DatabaseUnavailable, ObjectStoreError) as error:
                log.warning("housekeeping waits: %s", error)
            except Exception:
                log.exception("housekeeping failed; it is tried again later")
            else:
                if swept:
                    log.info("housekeeping: %s", swept)
            if whole:
                next_sweep_s = time.monotonic() + SWEEP_EVERY_S
            self._stopping.wait(GARBAGE_EVERY_S)

    def _sweep_checkpoints(self) -> int:
        with self._database.unit_of_work() as work:
            for row in work.checkpoints.expire(kept_s=self._checkpoints_kept_s):
                size = Manifest.model_validate(row.manifest).bytes_total
                work.garbage.add(row.prefix, bytes_total=size)
        deleted = self.sweep_garbage()
        # What a worker that was killed had sent before it could commit it.
        keys = (item.key for item in self._store.list("checkpoints/"))
        stored = {folder: job_id for key in keys if (job_id := _job_of(key)) and (folder := _checkpoint_of(key))}
        with self._database.unit_of_work() as work:
            unneeded = work.checkpoints.unneeded(stored)
        return deleted + sum(self._store.delete(prefix) for prefix in unneeded)

    def _sweep_attempts(self) -> int:
        deleted, after = 0, 0
        while True:
            with self._database.unit_of_work() as work:
                page = work.attempts.unswept(after=after, limit=PAGE_JOBS)
            for job in page:
                folder = f"artifacts/{job.job_id}/"
                fences = {item.key.removeprefix(folder).partition("/")[0] for item in self._store.list(folder)}
                deleted += sum(self._store.delete(f"{folder}{fence}") for fence in fences - {str(job.good_fence)})
                with self._database.unit_of_work() as work:
                    work.attempts.mark_swept(job.job_id, settled_s=SETTLED_S)
            if len(page) < PAGE_JOBS or self._stopping.is_set():
                return deleted
            after = page[-1].submitted_order

    def _sweep_uploads(self, begun_before: datetime) -> int:
        stale = [upload for upload in self._store.abandoned_uploads() if upload.started_at < begun_before]
        for upload in stale:
            self._store.abort_upload(upload)
        return len(stale)

    def _sweep_imports(self) -> int:
        with self._database.unit_of_work() as work:
            given_up = work.models.give_up_imports(IMPORT_STALE.total_seconds())
        for import_id in given_up:
            self._store.delete(f"models/{import_id}")
            with self._database.unit_of_work() as work:
                work.blobs.forget_import(import_id)
                work.models.forget_import(import_id)
                work.garbage.add(f"models/{import_id}", bytes_total=0)  # a file of it may be on its way still
        return len(given_up)


def _job_of(key: str) -> UUID | None:
    """The job in the key of a checkpoint's object; None for a key that this platform did not make."""
    try:
        return UUID(key.split("/")[1])
    except ValueError:
        return None


def _checkpoint_of(key: str) -> str | None:
    """The prefix of the checkpoint that an object belongs to: `checkpoints/<job>/<fence>/<step>`."""
    parts = key.split("/")
    return "/".join(parts[:4]) if len(parts) > 4 else None
