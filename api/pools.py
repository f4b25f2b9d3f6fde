"""Threads that wait for one part of the platform: when it hangs they are all taken, and nobody else's are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio

from api.errors import unavailable

Result = TypeVar("Result")


class Pool:
    """`threads` at once. `what` names the part that they wait for, to people."""

    def __init__(self, what: str, *, threads: int, patience_s: float) -> None:
        self._what = what
        self._places = anyio.Semaphore(threads)
        self._threads = threads
        self._limiter = anyio.CapacityLimiter(threads)
        self._patience_s = patience_s

    async def run(self, work: Callable[[], Result], *, patient: bool = False) -> Result:
        """Runs blocking work. Raises ApiError 503 when no thread is free for `patience_s` seconds.

        `patient` work waits as long as it takes: it belongs to an answer that has begun.
        """
        with anyio.move_on_after(None if patient else self._patience_s) as waiting:
            await self._places.acquire()
        if waiting.cancelled_caught:
            message = f"{self._what} is slow: {self._threads} requests wait for it already. Try again shortly."
            raise unavailable(message, "object_store_busy")
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self._places.release()
