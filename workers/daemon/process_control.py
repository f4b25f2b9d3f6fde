"""Groups of processes: dying with the parent, signalling a whole group, and seeing that it is gone."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1
# Loaded at import, so that a forked child needs no dynamic loader.
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent_pid: int) -> None:
    """The kernel kills this process when the thread that started it ends. Raises OSError when the kernel refuses.

    `parent_pid` closes the gap before the call: a parent that is gone already can no longer take us along.
    """
    if _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)


def signal_group(group: int, number: signal.Signals) -> bool:
    """Signals every process of the group; False when it has none."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def group_is_gone(group: int) -> bool:
    """Whether no process of the group is left, zombies included."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def descendants_of(pid: int) -> list[int]:
    """Its children, theirs, and so on, in whatever groups they are; the deepest first. Zombies count."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in path.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            found += [*descendants_of(child), child]
    return found
