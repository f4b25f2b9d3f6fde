"""Bodies that flow: answers that clean up when the client leaves, and requests that go to a file as they come."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Send

from api.errors import ApiError
from api.parts import Parts

log = logging.getLogger(__name__)

#: Bytes collected before a thread hashes and writes them: fewer changes of thread, bounded memory.
_BLOCK_BYTES = 1 << 20


class ClosingStream(StreamingResponse):
    """Closes its generator as soon as the client is gone, not when the garbage collector comes by."""

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        finally:
            if isinstance(self.body_iterator, AsyncGenerator):
                await self.body_iterator.aclose()


#: Milliseconds after which a browser's EventSource connects again.
_RETRY_MS = 2000


def event_stream(events: AsyncIterator[bytes]) -> ClosingStream:
    """Server-sent events, made by `server_event`."""
    # X-Accel-Buffering: nginx must not hold events back.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return ClosingStream(_with_retry(events), media_type="text/event-stream", headers=headers)


async def _with_retry(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield f"retry: {_RETRY_MS}\n\n".encode()
    try:
        async for event in events:
            yield event
    finally:
        if isinstance(events, AsyncGenerator):
            await events.aclose()


def server_event(kind: str, cursor: str, data: dict[str, Any]) -> bytes:
    """`cursor`: the place behind it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"id: {cursor}\nevent: {kind}\ndata: {text}\n\n".encode()


#: Keeps proxies from closing a quiet stream.
KEEP_ALIVE = b": keep-alive\n\n"


@dataclass(frozen=True)
class Received:
    """A body that was received whole."""

    path: Path
    bytes: int
    sha256: str


@asynccontextmanager
async def received_body(request: Request, parts: Parts, *, bytes_max: int) -> AsyncIterator[Received]:
    """Receives the body into a temporary file, hashing it on the way; the file is gone afterwards.

    Raises ApiError: 413 beyond `bytes_max`, 422 when `X-Content-SHA256` differs; OSError (ENOSPC: disk full).
    """
    if int(request.headers.get("content-length") or 0) > bytes_max:
        raise too_large(bytes_max)
    descriptor, name = tempfile.mkstemp(prefix="body-", dir=parts.spool.folder)
    path = Path(name)
    try:
        received = await _receive(request, parts, descriptor, path, bytes_max)
        _check_promise(request, received)
        yield received
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)


def next_chunk(chunks: Iterator[bytes]) -> bytes | None:
    """The next chunk, None at the end: StopIteration can't pass through a coroutine."""
    return next(chunks, None)


async def _receive(request: Request, parts: Parts, descriptor: int, path: Path, bytes_max: int) -> Received:
    digest = hashlib.sha256()
    block = bytearray()
    total = 0

    def write() -> None:
        digest.update(block)
        view = memoryview(block)
        while view:
            view = view[os.write(descriptor, view) :]
        view.release()

    async for chunk in request.stream():
        total += len(chunk)
        if total > bytes_max:
            raise too_large(bytes_max)
        block += chunk
        if len(block) >= _BLOCK_BYTES:
            await anyio.to_thread.run_sync(write, limiter=parts.spooling)
            block = bytearray()
    await anyio.to_thread.run_sync(write, limiter=parts.spooling)
    return Received(path, total, digest.hexdigest())


def _check_promise(request: Request, received: Received) -> None:
    promised = request.headers.get("x-content-sha256", "").lower()
    if promised and promised != received.sha256:
        raise ApiError(
            422,
            f"The body arrived with sha256 {received.sha256}, not {promised}. Send it again.",
            code="sha256_mismatch",
            param="X-Content-SHA256",
        )


def too_large(bytes_max: int) -> ApiError:
    return ApiError(413, f"The file is larger than {bytes_max:,} bytes, the limit of this server.")
