from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from uuid import UUID

from jobspecs.events import CheckpointEvent
from jobspecs.lifecycle import JobState
from jobspecs.manifest import Manifest, describe_files, write_manifest
from storage.objects import ObjectStore, ObjectStoreUnavailable, StoredObject
from tests.workers.harness import Harness
from workers.attempt.checkpoint_sync import CheckpointUploader


class _StoppingStore(ObjectStore):
    """The attempt ends when the first file has been sent."""

    uploader: CheckpointUploader

    def upload_file(self, path: Path, key: str, **options: Any) -> StoredObject:
        stored = super().upload_file(path, key, **options)
        self.uploader._stopped.set()
        return stored


class _ForgetfulStore(ObjectStore):
    """Goes away once, after a checkpoint was committed; meanwhile the job is given to another worker."""

    harness: Harness
    job_id: UUID
    away = True

    def upload_file(self, path: Path, key: str, **options: Any) -> StoredObject:
        if path.name == "a" and not self.away:
            with self.harness.database.unit_of_work() as work:
                work.jobs.transition(self.job_id, JobState.queued, actor="reaper")
                work.jobs.assign(self.job_id, "elsewhere", lease_s=60)
        return super().upload_file(path, key, **options)

    def delete(self, prefix: str) -> int:
        if self.away:
            self.away = False
            raise ObjectStoreUnavailable("away")
        return super().delete(prefix)


def saved_steps(harness: Harness, *steps: int) -> list[CheckpointEvent]:
    """Checkpoints in the child's folder."""
    events = []
    for step in steps:
        source = harness.folder / "work" / "checkpoints" / f"step-{step}"
        source.mkdir(parents=True)
        (source / "a").write_text(f"step {step}", encoding="ascii")
        write_manifest(source, Manifest(artifact="checkpoint", files=describe_files(source)))
        events.append(CheckpointEvent(step=step, directory=f"checkpoints/step-{step}"))
    return events


def test_a_checkpoint_that_counts_stays_though_its_attempt_is_fenced_off_before_it_knows(harness: Harness) -> None:
    job_id = harness.submit("steps")
    with harness.database.unit_of_work() as work:
        work.jobs.assign(job_id, "here", lease_s=60)
    store = _ForgetfulStore(harness.store.settings)
    store.harness, store.job_id = harness, job_id
    fenced = threading.Event()
    uploader = CheckpointUploader(job_id, 1, harness.folder / "outgoing", harness.database, store, fenced.set)
    for event in saved_steps(harness, 1, 2, 3):
        uploader.add(event, harness.folder / "work")
        assert uploader.drain(30)
    assert fenced.is_set()
    with harness.database.unit_of_work() as work:
        newest = work.checkpoints.newest_first(job_id)[0]
    assert newest.step == 3
    assert [item.key for item in harness.store.list(newest.prefix)]
    uploader.stop()
    store.close()


def test_a_checkpoint_whose_upload_is_stopped_leaves_nothing_in_the_store(harness: Harness) -> None:
    job_id = harness.submit("steps")
    source = harness.folder / "work" / "checkpoints" / "step-1"
    source.mkdir(parents=True)
    for name in ("a", "b"):
        (source / name).write_text(name, encoding="ascii")
    write_manifest(source, Manifest(artifact="checkpoint", files=describe_files(source)))
    store = _StoppingStore(harness.store.settings)
    uploader = CheckpointUploader(job_id, 0, harness.folder / "outgoing", harness.database, store, lambda: None)
    store.uploader = uploader
    uploader.add(CheckpointEvent(step=1, directory="checkpoints/step-1"), harness.folder / "work")
    uploader._thread.join(30)
    assert not uploader._thread.is_alive()
    assert not list(harness.store.list(f"checkpoints/{job_id}/"))
    store.close()
