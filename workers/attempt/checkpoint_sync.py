"""Carries an attempt's checkpoints to the object store while it trains, and brings the newest good one back."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from jobspecs.events import CheckpointEvent
from jobspecs.manifest import MANIFEST_NAME, Manifest, read_manifest, write_manifest
from storage.database import Database, DatabaseUnavailable
from storage.objects import (
    ObjectCorrupt,
    ObjectNotFound,
    ObjectStore,
    ObjectStoreError,
    TransferStopped,
    WantedObject,
)

log = logging.getLogger(__name__)

#: Complete checkpoints kept per job: the newest, and one before it in case the newest turns out damaged.
KEPT = 2
#: Seconds before another try after the object store or PostgreSQL did not answer.
_RETRY_S = 2.0


class CheckpointUploader:
    """Sends one attempt's checkpoints in the background. When a newer one waits, an older one is left out."""

    def __init__(
        self,
        job_id: UUID,
        fence: int,
        outgoing: Path,
        database: Database,
        store: ObjectStore,
        on_fenced: Callable[[], None],
    ) -> None:
        self._job_id = job_id
        self._fence = fence
        self._outgoing = outgoing
        self._database = database
        self._store = store
        self._on_fenced = on_fenced
        self._changed = threading.Condition()
        self._waiting: tuple[int, Path] | None = None
        self._busy = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def add(self, event: CheckpointEvent, work_dir: Path) -> None:
        """Takes a complete checkpoint. Hard links keep its files when the child deletes older checkpoints."""
        source = (work_dir / event.directory).resolve()
        if not source.is_relative_to(work_dir.resolve()):
            raise ValueError(f"the checkpoint {event.directory!r} lies outside the attempt's folder")
        target = self._outgoing / f"step-{event.step:08d}"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, copy_function=os.link)
        with self._changed:
            if self._waiting is not None:
                shutil.rmtree(self._waiting[1], ignore_errors=True)
            self._waiting = (event.step, target)
            self._changed.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Waits until every checkpoint is stored; False when it took longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting is None and not self._busy, timeout_s)

    def stop(self) -> None:
        """Drops what is not yet stored."""
        self._stopped.set()
        with self._changed:
            self._waiting = None
            self._changed.notify_all()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._waiting is None and not self._stopped.is_set():
                    self._changed.wait()
                if self._stopped.is_set() or self._waiting is None:
                    return
                (step, folder), self._waiting, self._busy = self._waiting, None, True
            try:
                self._send_patiently(step, folder)
            except Exception:
                log.exception("checkpoint of job %s at step %d is left out", self._job_id, step)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _send_patiently(self, step: int, folder: Path) -> None:
        prefix = f"checkpoints/{self._job_id}/{self._fence}/{folder.name}"
        while not self._stopped.is_set():
            try:
                if not self._send(step, folder, prefix):
                    self._discard(prefix)
                    self._on_fenced()
                return
            except (TransferStopped, ObjectCorrupt, OSError, ValueError) as error:
                log.warning("checkpoint of job %s at step %d is left out: %s", self._job_id, step, error)
                self._discard(prefix)
                return
            except (ObjectStoreError, DatabaseUnavailable) as error:
                log.warning("checkpoint of job %s at step %d is not stored yet: %s", self._job_id, step, error)
                if self._waiting is not None:
                    return
                self._stopped.wait(_RETRY_S)

    def _discard(self, prefix: str) -> None:
        """Deletes it unless a row names it: an answer may have been lost, and another attempt resumes from it now."""
        try:
            with self._database.unit_of_work() as work:
                if work.checkpoints.is_named(self._job_id, prefix):
                    return
            self._store.delete(prefix)
        except (ObjectStoreError, DatabaseUnavailable) as error:
            log.warning("%s stays behind until the job has ended: %s", prefix, error)

    def _send(self, step: int, folder: Path, prefix: str) -> bool:
        """Stores and commits it. False when the attempt is fenced off."""
        manifest = read_manifest(folder)
        for file in manifest.files:
            self._store.upload_file(
                folder / file.path, f"{prefix}/{file.path}", sha256=file.sha256, should_stop=self._stopped.is_set
            )
        self._store.upload_file(folder / MANIFEST_NAME, f"{prefix}/{MANIFEST_NAME}")
        with self._database.unit_of_work() as work:
            stored = work.checkpoints.add(self._job_id, self._fence, step, prefix=prefix, manifest=manifest)
        if stored:
            forget_checkpoints(self._database, self._store, self._job_id, keep=KEPT)
        return stored


def forget_checkpoints(database: Database, store: ObjectStore, job_id: UUID, *, keep: int) -> None:
    """Forgets all but the newest `keep` checkpoints of a job, and then deletes what nobody names any more.

    A job and its retry may name the same one. Objects that can't be deleted now are swept once the job has ended.
    """
    with database.unit_of_work() as work:
        unnamed = work.checkpoints.forget(job_id, keep=keep)
    for row in unnamed:
        store.delete(row.prefix)


def fetch_newest(
    database: Database,
    store: ObjectStore,
    job_id: UUID,
    folder: Path,
    warn: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> Path | None:
    """The newest checkpoint whose every byte verifies, below `folder`; older ones are tried in turn.

    Raises ObjectStoreUnavailable, DatabaseUnavailable, TransferStopped.
    """
    with database.unit_of_work() as work:
        rows = work.checkpoints.newest_first(job_id)
    for row in rows:
        target = folder / f"step-{row.step:08d}"
        # The manifest of the database, not the one in the bucket: only what this platform wrote is resumed from.
        manifest = Manifest.model_validate(row.manifest)
        try:
            wanted = [WantedObject(file.path, file.bytes, file.sha256) for file in manifest.files]
            store.download_tree(row.prefix, wanted, target, should_stop=should_stop)
        except (ObjectCorrupt, ObjectNotFound) as error:
            warn(f"The checkpoint at step {row.step} can't be used; an older one is tried. {error}")
            shutil.rmtree(target, ignore_errors=True)
            continue
        write_manifest(target, manifest)
        return target
    return None
