from __future__ import annotations

from pathlib import Path
from typing import Any

from jobspecs.events import CheckpointEvent
from jobspecs.manifest import Manifest, describe_files, write_manifest
from storage.objects import ObjectStore, StoredObject
from tests.workers.harness import Harness
from workers.attempt.checkpoint_sync import CheckpointUploader


class _StoppingStore(ObjectStore):
    """The attempt ends when the first file has been sent."""

    uploader: CheckpointUploader

    def upload_file(self, path: Path, key: str, **options: Any) -> StoredObject:
        stored = super().upload_file(path, key, **options)
        self.uploader._stopped.set()
        return stored


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
