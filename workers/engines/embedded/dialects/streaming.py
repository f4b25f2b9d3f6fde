"""Answers that flow, and the end of the work for them when the client is gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

Result = TypeVar("Result")


#: What proxies note for a request whose client has left; nobody sees it.
_CLIENT_GONE = 499


class EventStream(StreamingResponse):
    """Server-sent events. The work for them stops as soon as the client is gone."""

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncGenerator[str, None], stop: Callable[[], None], headers: Mapping[str, str] | None = None
    ) -> None:
        """`stop` ends the work behind the events; it is called in any case, and harmless when there is none left."""
        # Proxies that collect an answer before they pass it on are asked not to.
        super().__init__(events, headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store", **(headers or {})})
        self._events = events
        self._stop = stop

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        finally:
            self._stop()
            await self._events.aclose()


def event(document: Any) -> str:
    """One event with JSON as its data."""
    return f"data: {json.dumps(document, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result | None:
    """The result of `work`; it is cancelled when the client leaves, and the result is None. Read the body before."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_departure(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()


def nobody_there() -> Response:
    """The answer to a client that has left."""
    return Response(status_code=_CLIENT_GONE)


async def _departure(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
