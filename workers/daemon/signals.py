"""What SIGTERM and SIGINT do to a long-running process of the platform."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType


def on_termination(callback: Callable[[], None]) -> None:
    """Calls `callback` in a thread of its own when somebody asks the process to end.

    A handler runs between two instructions of the main thread, which may hold the very lock that the callback needs.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=callback, name="termination", daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
