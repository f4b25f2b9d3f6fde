"""Passes a request on to the engine of a language model, and its answer back as it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import httpx
from fastapi import Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from api.errors import ApiError, error_response, unavailable
from api.generation.addressing import for_engine
from api.generation.counting import TokenCount
from api.generation.naming import renaming
from api.generation.templates import check_tools
from api.inference.engine import Deployed, answering, ask_streaming
from api.inference.refusals import RETRY_AFTER_S
from api.open_answers import TokenEnded
from api.parts import Parts
from api.streaming import EVENT_STREAM, ClosingStream
from jobspecs.engines import CHAT

#: Seconds that may pass without a byte: a long answer that is not streamed comes all at once.
_SILENCE_S = 900.0
#: Largest answer that is not streamed: the longest text with the log probabilities of all its tokens has less.
_ANSWER_BYTES_MAX = 64 * 1024 * 1024
#: Headers of an engine that are its clients' business.
_PASSED_HEADERS = ("x-model", "x-prompt-tokens", "x-generated-tokens", "x-truncated", "x-accel-buffering")
_EVENT_END = b"\n\n"


async def passed_on(
    parts: Parts, request: Request, engine: Deployed, path: str, body: Mapping[str, Any], *, own_words: bool = False
) -> Response:
    """The engine's answer, piece by piece when it streams. A client that leaves ends the engine's work.

    Raises ApiError when the engine refuses or does not answer; with `own_words` its refusals are passed on as well.
    """
    rename = renaming(engine, path, body.get("model"))
    body = for_engine(engine, path, body)
    if path == CHAT:
        await check_tools(parts, engine, body)
    async with AsyncExitStack() as stack:
        asking = ask_streaming(parts, engine, path, body, silence_s=_SILENCE_S, raising=not own_words)
        answer = await _while_connected(request, stack.enter_async_context(asking))
        headers = {name: answer.headers[name] for name in _PASSED_HEADERS if name in answer.headers}
        media_type = answer.headers.get("content-type", "application/json").partition(";")[0]
        if media_type == EVENT_STREAM:
            # From here on the stream closes the connection to the engine.
            pieces = _pieces(parts, answer, request.state.token_sha256)
            stream = _events(pieces, stack.pop_all(), engine.name, own_words, TokenCount(answer, body), rename)
            return ClosingStream(stream, media_type=EVENT_STREAM, headers=headers)
        with answering(engine.name, engine.kind):
            content = await _while_connected(request, _bounded(answer))
        if answer.is_success:
            TokenCount(answer, body).whole(content)
        return Response(rename(content), answer.status_code, headers, media_type)


async def _events(
    pieces: AsyncGenerator[bytes, None],
    stack: AsyncExitStack,
    name: str,
    own_words: bool,
    tokens: TokenCount,
    rename: Callable[[bytes], bytes],
) -> AsyncGenerator[bytes, None]:
    """Whole events as they come. The status is sent already: when it breaks off, an event says so."""
    begun = b""
    async with stack:
        try:
            with answering(name):
                async for piece in pieces:
                    whole, end, begun = (begun + piece).rpartition(_EVENT_END)
                    if len(begun) > _ANSWER_BYTES_MAX:
                        raise httpx.DecodingError("an event is larger than any answer can be")
                    if end:
                        tokens.events(whole)
                        yield rename(whole) + end
        except ApiError:
            yield _broken_off(_away(f"The deployment {name} broke off in the middle of its answer."), own_words)
        except TokenEnded:
            yield _broken_off(ApiError(401, "The token was revoked, or is over. Ask for a new one."), own_words)
        except TimeoutError:
            yield _broken_off(_away("The platform's API was stopped in the middle of the answer."), own_words)
        finally:
            tokens.end()


async def _pieces(parts: Parts, answer: httpx.Response, token: str) -> AsyncGenerator[bytes, None]:
    """Raises TokenEnded with the token; TimeoutError when the process waits no longer."""
    pieces = answer.aiter_bytes()
    while True:
        async with parts.open_answers.read(token):
            piece = await anext(pieces, None)
        if piece is None:
            return
        yield piece


def _away(why: str) -> ApiError:
    return unavailable(f"{why} Ask again.", "engine_unavailable", RETRY_AFTER_S)


def _broken_off(error: ApiError, own_words: bool) -> bytes:
    """The last events of an answer that has no end, as the dialect's clients read them."""
    if own_words:
        return b"data: " + json.dumps({"error": error.detail, "error_type": "generation"}).encode() + _EVENT_END
    return b"data: " + bytes(error_response(error).body) + _EVENT_END + b"data: [DONE]" + _EVENT_END


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
