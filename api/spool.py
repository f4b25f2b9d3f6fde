"""The spool folder: bodies, previews, tokenizers and data sets while they are looked at. Several APIs may share one.

Each process has a folder of its own in it, under a lock that ends with the process: so what a killed process left is
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
from pathlib import Path

log = logging.getLogger(__name__)

#: Seconds between two sweeps.
SWEEP_EVERY_S = 3600.0
_PREFIX = "eigenwerk-spool-"
_LOCK = "lock"
#: A folder without a lock that is younger than this is being made.
_YOUNG_S = 60.0
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
        for path in self._root.glob("eigenwerk-*"):
            try:
                if path.name.startswith(_PREFIX):
                    _delete_if_left(path)
                elif path.name.startswith(_FORMER_PREFIXES) and _age_s(path) > _FORMER_KEPT_S:
                    _delete(path)
            except OSError as error:
                # Gone by now, or another user's in a shared folder.
                log.info("%s is left alone: %s", path, error)


def _locked_folder(root: Path) -> tuple[Path, int]:
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=root))
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return folder, descriptor


def _delete_if_left(folder: Path) -> None:
    if folder.is_symlink() or not folder.is_dir():
        return
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        if _age_s(folder) > _YOUNG_S:
            _delete(folder)
        return
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
