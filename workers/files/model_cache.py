"""Models on this host's disk, by the digest of their manifest, and models of a hub by their commit.

What is under its final name is whole.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Collection
from pathlib import Path

from jobspecs.frozen import FrozenHubModel
from jobspecs.manifest import Manifest, write_manifest
from storage.objects import ObjectStore, WantedObject
from workers.files.hub import fetch_snapshot

log = logging.getLogger(__name__)

#: Models that nothing uses are kept for the next time, up to this many.
UNUSED_MAX = 4
_INCOMING = ".incoming-"


class ModelCache:
    """The folder `root`, one sub-folder per model. One process uses it, from several threads."""

    def __init__(self, root: Path, store: ObjectStore) -> None:
        self._root = root
        self._store = store
        root.mkdir(parents=True, exist_ok=True)
        for left_over in root.glob(f"{_INCOMING}*"):
            shutil.rmtree(left_over)

    def pull(self, prefix: str, manifest: Manifest) -> Path:
        """The folder with the model's files and `manifest.json`; fetches and checks them unless they are here.

        Raises ObjectCorrupt or ObjectNotFound (the stored artifact is damaged), ObjectStoreUnavailable,
        ObjectStoreRefused, OSError (ENOSPC: disk full). The caller still checks a folder that was here already.
        """
        final = self._path(manifest.digest)
        if final.is_dir():
            final.touch()
            return final
        incoming = self._root / f"{_INCOMING}{uuid.uuid4().hex}"
        incoming.mkdir()
        try:
            wanted = [WantedObject(file.path, file.bytes, file.sha256) for file in manifest.files]
            self._store.download_tree(prefix, wanted, incoming)
            write_manifest(incoming, manifest)
            self._move(incoming, final)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        return final

    @staticmethod
    def name_of(model: FrozenHubModel) -> str:
        """The sub-folder of a hub's model."""
        return f"hub--{model.repository.replace('/', '--')}@{model.revision}"

    def pull_hub(self, model: FrozenHubModel) -> Path:
        """The folder with a hub's repository at a commit; fetches it unless it is here.

        Raises HubUnavailable, RunFailed (there is no such model, or it has no safetensors weights), OSError.
        """
        final = self._root / self.name_of(model)
        if final.is_dir():
            final.touch()
            return final
        incoming = self._root / f"{_INCOMING}{uuid.uuid4().hex}"
        try:
            snapshot = fetch_snapshot(model, incoming / "snapshot")
            # The hub's own cache holds links to its blobs; the snapshot's folder has plain files.
            folder = incoming / "model"
            for path in (path for path in snapshot.rglob("*") if path.is_file()):
                target = folder / path.relative_to(snapshot)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.hardlink_to(path.resolve())
            self._move(folder, final)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        return final

    def discard(self, name: str) -> None:
        """Forgets the copy: it is damaged."""
        path = self._path(name)
        if path.is_dir():
            shutil.rmtree(path)

    def prune(self, in_use: Collection[str]) -> None:
        """Deletes the copies that were unused the longest, beyond UNUSED_MAX."""
        unused = [path for path in self._root.iterdir() if path.name not in in_use and not path.name.startswith(".")]
        unused.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in unused[UNUSED_MAX:]:
            log.info("model %s: no longer kept on this host", path.name)
            shutil.rmtree(path)

    def _path(self, name: str) -> Path:
        return self._root / name

    def _move(self, incoming: Path, final: Path) -> None:
        try:
            incoming.rename(final)
        except OSError:
            # Another deployment of the same model was quicker; its copy is as good.
            if not final.is_dir():
                raise
