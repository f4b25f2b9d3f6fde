"""The scratch disk: one folder per attempt."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AttemptFolders:
    """The folders of one attempt. `inputs` holds verified files, which nobody changes."""

    root: Path

    @property
    def inputs(self) -> Path:
        return self.root / "inputs"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def output(self) -> Path:
        return self.root / "output"

    @property
    def outgoing(self) -> Path:
        """Checkpoints on their way to the object store."""
        return self.root / "outgoing"

    @property
    def task(self) -> Path:
        return self.root / "task.json"


class Scratch:
    """The folder `root` on the scratch disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._attempts = root / "attempts"
        self._attempts.mkdir(parents=True, exist_ok=True)

    def create(self, job_id: UUID, fence: int) -> AttemptFolders:
        """Fresh, empty folders for an attempt. Raises OSError (ENOSPC: disk full), and leaves nothing then."""
        folders = AttemptFolders(self._attempts / f"{job_id}-{fence}")
        self.remove(folders)
        try:
            for folder in (folders.inputs, folders.checkpoints, folders.output, folders.outgoing):
                folder.mkdir(parents=True)
        except OSError:
            self.remove(folders)
            raise
        return folders

    def remove(self, folders: AttemptFolders) -> None:
        """Deletes an attempt's folders, also half-made ones."""
        if folders.root.exists():
            shutil.rmtree(folders.root)

    def remove_orphans(self) -> None:
        """Deletes what attempts of an earlier, killed worker left behind. Only before any attempt runs."""
        for folder in self._attempts.iterdir():
            log.info("removing %s, left behind by an earlier worker", folder.name)
            shutil.rmtree(folder)

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free
