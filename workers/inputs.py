"""Fetches a job's inputs, verifies them, and keeps them for the next job that needs the same bytes.

The cache holds files by their sha256. An attempt gets hard links, so trimming the cache never takes a file from it.
What comes from the cache is hashed again on every use (1.5 GB/s): a disk may have changed it, or an earlier job.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

from jobspecs.frozen import FrozenDataset, FrozenHubModel, FrozenInputs, FrozenRegistryModel
from jobspecs.manifest import ManifestFile, check_relative_path, sha256_of
from storage.objects import ObjectStore
from workers.hub import fetch_snapshot

log = logging.getLogger(__name__)


class InputCache:
    """The folder `root`. Several threads of one process may use it at once."""

    def __init__(self, root: Path, store: ObjectStore, *, bytes_max: int) -> None:
        self._root = root
        self._files = root / "sha256"
        self._hub = root / "hub"
        self._store = store
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._files.mkdir(parents=True, exist_ok=True)
        self._hub.mkdir(exist_ok=True)

    def place_inputs(self, inputs: FrozenInputs, folder: Path) -> tuple[Path, Path]:
        """Puts data set and model below `folder`; returns the data set's file and the model's folder.

        Raises ObjectNotFound, ObjectCorrupt, ObjectStoreUnavailable, ObjectStoreRefused, HubUnavailable, RunFailed
        (the hub's model is unusable), OSError (ENOSPC: disk full).
        """
        dataset = self.place_dataset(inputs.dataset, folder / "dataset")
        model_dir = folder / "model"
        if isinstance(inputs.model, FrozenHubModel):
            self._place_hub_model(inputs.model, model_dir)
        else:
            self.place_model(inputs.model, model_dir)
        return dataset, model_dir

    def place_dataset(self, dataset: FrozenDataset, folder: Path) -> Path:
        """The data set's one file, under the name it was pushed under: its suffix tells the format."""
        name = Path(check_relative_path(dataset.file_name)).name
        target = folder / name
        self._place(dataset.key, ManifestFile(path=name, bytes=dataset.bytes, sha256=dataset.sha256), target)
        return target

    def place_model(self, model: FrozenRegistryModel, folder: Path) -> None:
        """A registered model's files."""
        for file in model.files:
            self._place(f"{model.prefix}/{file.path}", file, folder / file.path)

    def _place_hub_model(self, model: FrozenHubModel, folder: Path) -> None:
        snapshot = fetch_snapshot(model, self._hub)
        shutil.copytree(snapshot, folder, copy_function=_link_or_copy)

    def _place(self, key: str, file: ManifestFile, target: Path) -> None:
        cached = self._files / file.sha256
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            if not _is_intact(cached, file):
                self.trim(file.bytes)
                self._store.download_file(key, cached, sha256=file.sha256, bytes_total=file.bytes)
                cached.chmod(0o444)
            os.utime(cached)
            target.hardlink_to(cached)

    def trim(self, needed_bytes: int = 0) -> None:
        """Deletes the files unused for longest until `needed_bytes` more fit."""
        files = sorted(self._entries(), key=lambda path: path.stat().st_mtime)
        total = sum(path.stat().st_size for path in files) + needed_bytes
        for path in files:
            if total <= self._bytes_max:
                return
            total -= path.stat().st_size
            log.info("cache: %s makes room", path.name)
            path.unlink()

    def _entries(self) -> Iterable[Path]:
        return [path for path in self._files.iterdir() if path.is_file()]


def _is_intact(path: Path, file: ManifestFile) -> bool:
    if not path.is_file():
        return False
    if path.stat().st_size == file.bytes and sha256_of(path) == file.sha256:
        return True
    log.warning("cache: %s is damaged on this disk; it is fetched again", path.name)
    path.unlink()
    return False


def _link_or_copy(source: str, target: str) -> None:
    # The hub's cache holds links to its blobs; an attempt gets regular files.
    os.link(Path(source).resolve(), target)
