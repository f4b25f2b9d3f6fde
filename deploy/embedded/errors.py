"""The one error of the embedded platform, and how a full disk is named."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

#: With less room than this neither PostgreSQL nor a log can go on.
_ROOM_BYTES_MIN = 16 * 2**20


class EmbeddedError(RuntimeError):
    """The embedded platform cannot run here; the message says why and what to do."""


def is_full(error: OSError) -> bool:
    """Whether the disk, or the user's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def full_disk(folder: Path) -> str:
    """What to say to somebody whose disk is full; the folder need not exist."""
    folder = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    return f"the disk that holds {folder} is full ({free / 2**20:.0f} MiB are left); make room and start again"


def hint_at_full_disk(folder: Path) -> str:
    """A sentence for an error that a full disk may have caused; empty where there is room."""
    return f"\n{full_disk(folder)}" if shutil.disk_usage(folder).free < _ROOM_BYTES_MIN else ""
