"""Reads of answers that flow from engines through this process, and their end when it can wait for them no longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Reads:
    """Of one event loop."""

    def __init__(self) -> None:
        self._limits: set[asyncio.Timeout] = set()
        #: Of the loop's clock.
        self._over_at_s: float | None = None

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Raises TimeoutError out of what waits within, or begins to, once they are ended."""
        async with asyncio.timeout_at(self._over_at_s) as limit:
            self._limits.add(limit)
            try:
                yield
            finally:
                self._limits.discard(limit)

    def end(self) -> None:
        """Once, within the loop."""
        self._over_at_s = asyncio.get_running_loop().time()
        for limit in self._limits:
            limit.reschedule(self._over_at_s)
