"""Passes a request on to the engine of a language model, and its answer back as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import httpx
from fastapi import Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from api.inference.engine import Deployed, answering, ask_streaming
from api.parts import Parts
from api.streaming import ClosingStream

#: Seconds that may pass without a byte: a long answer that is not streamed comes all at once.
_SILENCE_S = 900.0
#: Largest answer that is not streamed: the longest text with the log probabilities of all its tokens has less.
_ANSWER_BYTES_MAX = 64 * 1024 * 1024
#: Headers of an engine that are its clients' business.
_PASSED_HEADERS = ("x-model", "x-prompt-tokens", "x-generated-tokens", "x-accel-buffering")
_EVENTS = "text/event-stream"


async def passed_on(
    parts: Parts, request: Request, engine: Deployed, path: str, body: Mapping[str, Any], *, own_words: bool = False
) -> Response:
    """The engine's answer, piece by piece when it streams. A client that leaves ends the engine's work.

    Raises ApiError when the engine refuses or does not answer; with `own_words` its refusals are passed on as well.
    """
    async with AsyncExitStack() as stack:
        asking = ask_streaming(parts, engine, path, body, silence_s=_SILENCE_S, raising=not own_words)
        answer = await _while_connected(request, stack.enter_async_context(asking))
        headers = {name: answer.headers[name] for name in _PASSED_HEADERS if name in answer.headers}
        media_type = answer.headers.get("content-type", "application/json").partition(";")[0]
        if media_type == _EVENTS:
            # From here on the stream closes the connection to the engine.
            stream = _pieces(answer, stack.pop_all(), engine.name)
            return ClosingStream(stream, media_type=_EVENTS, headers=headers)
        with answering(engine.name):
            content = await _while_connected(request, _bounded(answer))
        return Response(content, answer.status_code, headers, media_type)


async def _pieces(answer: httpx.Response, stack: AsyncExitStack, name: str) -> AsyncGenerator[bytes, None]:
    """A connection that breaks in the middle raises: the client's connection then breaks too, and it knows."""
    async with stack:
        with answering(name):
            async for piece in answer.aiter_bytes():
                yield piece


async def _bounded(answer: httpx.Response) -> bytes:
    content = bytearray()
    async for piece in answer.aiter_bytes():
        content += piece
        if len(content) > _ANSWER_BYTES_MAX:
            raise httpx.DecodingError("the answer is larger than any can be")
    return bytes(content)


async def _while_connected(request: Request, work: Any) -> Any:
    """The result of `work`; cancelled, and ClientDisconnect raised, when the client leaves. Its body has been read."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_departure(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})


async def _departure(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
