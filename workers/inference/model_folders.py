"""The folders that engines read models from: links to the files of the host's cache, one folder per model.

What is under its final name is whole.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from uuid import UUID

from jobspecs.frozen import FrozenHubModel
from jobspecs.manifest import Manifest, write_manifest
from jobspecs.pieces import StoredFile
from workers.files.host_cache import HostCache
from workers.files.hub import HubAccess

log = logging.getLogger(__name__)

_INCOMING = ".incoming-"


class ModelFolders:
    """The folder `root`, on the disk of the cache. One process uses it, from several threads."""

    def __init__(self, root: Path, cache: HostCache) -> None:
        self._root = root
        self._cache = cache
        root.mkdir(parents=True, exist_ok=True)
        for left_over in root.glob(f"{_INCOMING}*"):
            shutil.rmtree(left_over)

    def free_bytes(self) -> int:
        """Bytes free on the folder's disk."""
        return shutil.disk_usage(self._root).free

    def pull(self, files: Sequence[StoredFile], manifest: Manifest) -> Path:
        """The folder with the model's files and `manifest.json`; fetches and checks what the host does not have.

        Raises ObjectCorrupt or ObjectNotFound (the stored artifact is damaged), ObjectStoreUnavailable,
        ObjectStoreRefused, OSError (ENOSPC: disk full). The caller still checks a folder that was here already.
        """

        def fill(folder: Path) -> None:
            self._cache.place_files(files, folder, should_stop=_never)
            write_manifest(folder, manifest)

        return self._whole(manifest.digest, fill)

    @staticmethod
    def name_of(model: FrozenHubModel, owner_id: UUID) -> str:
        """The sub-folder of a hub's model: each owner's own, as one's token may open what another's does not."""
        return f"hub--{model.repository.replace('/', '--')}@{model.revision}--{owner_id}"

    def pull_hub(self, model: FrozenHubModel, owner_id: UUID, access: HubAccess | None) -> Path:
        """The folder with a hub's repository at a commit, for this owner; `access` is the owner's.

        Raises HubUnavailable, RunFailed (there is no such model, or it has no safetensors weights), OSError.
        """

        def fill(folder: Path) -> None:
            self._cache.place_hub_model(model, folder, should_stop=_never, access=access)

        return self._whole(self.name_of(model, owner_id), fill)

    def discard(self, name: str) -> None:
        """Forgets the folder: a file of it is damaged. The cache checks its own before it links them again."""
        path = self._root / name
        if path.is_dir():
            shutil.rmtree(path)

    def prune(self, in_use: Collection[str]) -> None:
        """Deletes the other folders; their files stay in the cache while there is room."""
        for path in self._root.iterdir():
            if path.name not in in_use and not path.name.startswith("."):
                log.info("model %s: no longer in use on this host", path.name)
                shutil.rmtree(path)

    def _whole(self, name: str, fill: Callable[[Path], None]) -> Path:
        """The folder `name`, filled unless it is here."""
        final = self._root / name
        if final.is_dir():
            return final
        incoming = self._root / f"{_INCOMING}{uuid.uuid4().hex}"
        incoming.mkdir()
        try:
            fill(incoming)
            self._move(incoming, final)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        return final

    def _move(self, incoming: Path, final: Path) -> None:
        try:
            incoming.rename(final)
        except OSError:
            # Another deployment of the same model was quicker; its copy is as good.
            if not final.is_dir():
                raise


def _never() -> bool:
    return False
