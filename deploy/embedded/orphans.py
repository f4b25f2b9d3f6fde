"""Descendants that outlived the process that started them: they become ours, and are reaped or killed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Makes this process the parent of its descendants' orphans (Linux; elsewhere they are not tracked)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(managed: Collection[int]) -> None:
    """Collects adopted children that ended; those in `managed` have an owner who does it."""
    for pid in children() - set(managed):
        # Nobody else waits for an adopted child, so it cannot be gone.
        os.waitpid(pid, os.WNOHANG)


def kill_all(timeout_s: float = 5.0) -> int:
    """Kills every child and what they leave behind; returns how many were still running."""
    running: set[int] = set()
    deadline = time.monotonic() + timeout_s
    while (left := children()) and time.monotonic() < deadline:
        for pid in left:
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                running.add(pid)
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return len(running)


def children() -> set[int]:
    """The process ids of this process's children, zombies included; empty where the kernel does not list them."""
    found: set[int] = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(int(pid) for pid in listing.read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # that thread has just ended
    return found
