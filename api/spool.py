"""The spool folder: bodies, previews, tokenizers and data sets while they are looked at. Several APIs may share one.

Each process has a folder of its own in it, which it holds locked until it ends: so what a killed process left is
told from what a living one works with, whatever it is.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

#: Seconds between two sweeps.
SWEEP_EVERY_S = 3600.0
_PREFIX = "eigenwerk-spool-"
#: What earlier versions put into the folder itself, without a way to tell whose it is: kept for a week.
_FORMER_PREFIXES = ("eigenwerk-body-", "eigenwerk-look-", "eigenwerk-preview-", "eigenwerk-chat-")
_FORMER_KEPT_S = 7 * 24 * 3600.0


class Spool:
    """This process's part of the spool folder. Safe to share between threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._guard = threading.Lock()
        self._folder: Path | None = None
        self._descriptor = -1

    @property
    def folder(self) -> Path:
        """For temporary files; made when first used. Raises OSError (ENOSPC: disk full)."""
        with self._guard:
            if self._folder is not None and not self._folder.is_dir():
                log.warning("%s is gone: something cleans the spool folder. It is made anew", self._folder)
                os.close(self._descriptor)
                self._folder = None
            if self._folder is None:
                self._folder, self._descriptor = _locked_folder(self._root)
            return self._folder

    def close(self) -> None:
        """Deletes what is left of this process."""
        with self._guard:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                os.close(self._descriptor)
                self._folder = None

    def sweep(self) -> None:
        """Deletes what processes left that are gone, and nothing else."""
        with self._guard:
            own = self._folder
        for path in self._root.glob("eigenwerk-*"):
            if path == own:
                continue
            try:
                if path.name.startswith(_PREFIX):
                    _delete_if_left(path)
                elif path.name.startswith(_FORMER_PREFIXES) and _age_s(path) > _FORMER_KEPT_S:
                    _delete(path)
            except OSError as error:
                # Gone by now, or another user's in a shared folder.
                log.info("%s is left alone: %s", path, error)


def _locked_folder(root: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=root))
        # The folder itself: a file in it may be taken away by what cleans /tmp, and the lock with it.
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if folder.is_dir():
                return folder, descriptor
            os.close(descriptor)
        log.info("%s was swept before it was locked", folder)


def _delete_if_left(folder: Path) -> None:
    if folder.is_symlink() or not folder.is_dir():
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _delete(folder)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)


def _age_s(path: Path) -> float:
    return time.time() - path.lstat().st_mtime


def _delete(path: Path) -> None:
    log.info("deleting %s: the process that made it is gone", path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
