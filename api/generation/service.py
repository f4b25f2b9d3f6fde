"""Passes a request on to the engine of a language model, and its answer back as it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import httpx
from fastapi import Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from api.errors import ApiError, error_response, unavailable
from api.generation.counting import TokenCount
from api.generation.templates import check_tools
from api.inference.engine import Deployed, answering, ask_streaming
from api.inference.refusals import RETRY_AFTER_S
from api.parts import Parts
from api.streaming import ClosingStream
from jobspecs.engines import CHAT, COMPLETIONS, TGI_MODEL, Unserved, what_is_read

#: Seconds that may pass without a byte: a long answer that is not streamed comes all at once.
_SILENCE_S = 900.0
#: Largest answer that is not streamed: the longest text with the log probabilities of all its tokens has less.
_ANSWER_BYTES_MAX = 64 * 1024 * 1024
#: Headers of an engine that are its clients' business.
_PASSED_HEADERS = ("x-model", "x-prompt-tokens", "x-generated-tokens", "x-truncated", "x-accel-buffering")
_EVENTS = "text/event-stream"
_EVENT_END = b"\n\n"


async def passed_on(
    parts: Parts, request: Request, engine: Deployed, path: str, body: Mapping[str, Any], *, own_words: bool = False
) -> Response:
    """The engine's answer, piece by piece when it streams. A client that leaves ends the engine's work.

    Raises ApiError when the engine refuses or does not answer; with `own_words` its refusals are passed on as well.
    """
    body = for_engine(engine, path, body)
    if path == CHAT:
        await check_tools(parts, engine, body)
    async with AsyncExitStack() as stack:
        asking = ask_streaming(parts, engine, path, body, silence_s=_SILENCE_S, raising=not own_words)
        answer = await _while_connected(request, stack.enter_async_context(asking))
        headers = {name: answer.headers[name] for name in _PASSED_HEADERS if name in answer.headers}
        media_type = answer.headers.get("content-type", "application/json").partition(";")[0]
        if media_type == _EVENTS:
            # From here on the stream closes the connection to the engine.
            stream = _events(answer, stack.pop_all(), engine.name, own_words, TokenCount(answer, body))
            return ClosingStream(stream, media_type=_EVENTS, headers=headers)
        with answering(engine.name, engine.kind):
            content = await _while_connected(request, _bounded(answer))
        if answer.is_success:
            TokenCount(answer, body).whole(content)
        return Response(content, answer.status_code, headers, media_type)


def for_engine(engine: Deployed, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The request as the engine takes it. Raises ApiError for a field that the engine would pass over."""
    read = what_is_read(engine.kind, path, body)
    if isinstance(read, Unserved):
        raise ApiError(422, read.message, param=read.field)
    if engine.adapter is not None:
        return _of_the_adapter(engine.adapter, path, read)
    if engine.endpoint_model is None:
        return read
    if path in (CHAT, COMPLETIONS):
        return {**read, "model": engine.endpoint_model}
    return _with_its_adapter(engine, read) if engine.kind.adapter_field else read


def _of_the_adapter(adapter: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """A request to the base that names the adapter, and no other one."""
    if path in (CHAT, COMPLETIONS):
        if body.get("adapter_id") not in (None, adapter):
            message = f"adapter_id: the model that is asked is an adapter already: {adapter}."
            raise ApiError(404, message, code="model_not_found", param="adapter_id")
        return {**body, "adapter_id": adapter}
    parameters = body.get("parameters") or {}
    if isinstance(parameters, dict) and parameters.get("adapter_id") not in (None, adapter):
        message = f"Input validation error: `parameters.adapter_id`: the model is an adapter already: {adapter}."
        raise ApiError(404, message, param="parameters.adapter_id")
    if not isinstance(parameters, dict):
        return body
    # Without parameters TGI samples, with them it does not unless it is told to.
    return {**body, "parameters": {"do_sample": "parameters" not in body, **parameters, "adapter_id": adapter}}


def _with_its_adapter(engine: Deployed, body: dict[str, Any]) -> dict[str, Any]:
    """A request in TGI's shape that names the deployment's adapter, and no other one: TGI would answer without any."""
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict) or parameters.get("adapter_id") is not None:
        message = "Input validation error: `parameters.adapter_id`: this deployment has no adapters to choose from."
        raise ApiError(404, message, param="parameters.adapter_id")
    if engine.endpoint_model == TGI_MODEL:
        return body
    # Without parameters TGI samples, with them it does not unless it is told to.
    return {
        **body,
        "parameters": {"do_sample": "parameters" not in body, **parameters, "adapter_id": engine.endpoint_model},
    }


async def _events(
    answer: httpx.Response, stack: AsyncExitStack, name: str, own_words: bool, tokens: TokenCount
) -> AsyncGenerator[bytes, None]:
    """Whole events as they come. The status is sent already: when the engine breaks off, an event says so."""
    begun = b""
    async with stack:
        try:
            with answering(name):
                async for piece in answer.aiter_bytes():
                    whole, end, begun = (begun + piece).rpartition(_EVENT_END)
                    if end:
                        tokens.events(whole)
                        yield whole + end
        except ApiError:
            yield _broken_off(name, own_words)
        finally:
            tokens.end()


def _broken_off(name: str, own_words: bool) -> bytes:
    """The last events of an answer that has no end, as the dialect's clients read them."""
    message = f"The deployment {name} broke off in the middle of its answer. Ask again."
    if own_words:
        return b"data: " + json.dumps({"error": message, "error_type": "generation"}).encode() + _EVENT_END
    error = error_response(unavailable(message, "engine_unavailable", RETRY_AFTER_S))
    return b"data: " + bytes(error.body) + _EVENT_END + b"data: [DONE]" + _EVENT_END


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
