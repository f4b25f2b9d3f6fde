"""Answers that flow through this process, and what ends them early: their token, or the end of the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

#: Seconds between two looks at the tokens whose answers flow.
LOOK_EVERY_S = 1.0
#: Seconds in which an answer whose token has ended can say so.
_FAREWELL_S = 1.0


class TokenEnded(Exception):
    """The token that asked for the answer was revoked, or is over."""


class OpenAnswers:
    """Of one event loop. Tokens are known by their sums."""

    def __init__(self) -> None:
        self._reads: dict[asyncio.Timeout, str | None] = {}
        self._answers: dict[asyncio.Timeout, str] = {}
        self._ended: set[str] = set()
        #: Of the loop's clock.
        self._over_at_s: float | None = None

    @property
    def tokens(self) -> set[str]:
        """Whose answers flow."""
        return {*self._answers.values()}

    @asynccontextmanager
    async def read(self, token: str | None) -> AsyncIterator[None]:
        """Around a read from an engine: raises TokenEnded, or TimeoutError when the process waits no longer."""
        at_s = asyncio.get_running_loop().time() if token in self._ended else self._over_at_s
        try:
            async with asyncio.timeout_at(at_s) as limit:
                self._reads[limit] = token
                try:
                    yield
                finally:
                    self._reads.pop(limit)
        except TimeoutError as error:
            if limit.expired() and token in self._ended:
                raise TokenEnded from error
            raise

    @asynccontextmanager
    async def answer(self, token: str | None) -> AsyncIterator[None]:
        """Around all of an answer: raises TokenEnded a moment after its token's end, wherever it waits."""
        if token is None:
            yield
            return
        try:
            async with asyncio.timeout(None) as limit:
                self._answers[limit] = token
                try:
                    yield
                finally:
                    self._answers.pop(limit)
        except TimeoutError as error:
            if limit.expired():
                raise TokenEnded from error
            raise

    def end(self) -> None:
        """Ends all reads. Once, within the loop."""
        self._over_at_s = asyncio.get_running_loop().time()
        for limit in self._reads:
            limit.reschedule(self._over_at_s)

    def end_of(self, tokens: Collection[str]) -> None:
        """Ends the answers of these, and forgets earlier ones that have none any more."""
        now_s = asyncio.get_running_loop().time()
        self._ended = (self._ended | {*tokens}) & self.tokens
        for limit, token in self._reads.items():
            if token in self._ended:
                limit.reschedule(now_s)
        for limit, token in self._answers.items():
            if token in self._ended and limit.when() is None:
                limit.reschedule(now_s + _FAREWELL_S)
