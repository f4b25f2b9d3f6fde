"""Bodies that flow: answers that clean up when the client leaves, is too slow, or may no longer have them, and requests
that go to a file as they come."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from api.errors import ApiError
from api.open_answers import TokenEnded
from api.parts import Parts

log = logging.getLogger(__name__)

EVENT_STREAM = "text/event-stream"
#: Seconds that a client may take for nothing, and bytes that it must take in a second of more.
SLOW_S = 60.0
SLOW_BYTES_PER_S = 1024
#: Seconds for the end of an answer that must end.
_LAST_WAIT_S = 1.0
#: Bytes collected before a thread hashes and writes them: fewer changes of thread, bounded memory.
_BLOCK_BYTES = 1 << 20


class ClosingStream(StreamingResponse):
    """Closes its generator as soon as the client is gone, not when the garbage collector comes by.

    It ends early with the token that asked for it, and for clients that take less than a kilobyte in a second.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts: Parts = scope["app"].state.parts
        # Links to share are opened without a token.
        self._until_token_ends = partial(parts.open_answers.answer, scope["state"].get("token_sha256"))
        await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        try:
            async with self._until_token_ends():
                await super().stream_response(partial(_send_patiently, send))
        except TokenEnded:
            if self.media_type != EVENT_STREAM:
                # Only a broken connection tells the client that the rest is missing.
                raise ClientDisconnect from None
            await _send_patiently(send, {"type": "http.response.body", "body": b""}, wait_s=_LAST_WAIT_S)
        finally:
            if isinstance(self.body_iterator, AsyncGenerator):
                await self.body_iterator.aclose()


async def _send_patiently(send: Send, message: Message, wait_s: float | None = None) -> None:
    """Raises ClientDisconnect when the client does not take it in time: others wait for what stands behind it."""
    wait_s = wait_s or SLOW_S + len(message.get("body", b"")) / SLOW_BYTES_PER_S
    try:
        async with asyncio.timeout(wait_s):
            await send(message)
    except TimeoutError:
        log.info("a client took none of its answer for %.0f s: it is ended", wait_s)
        raise ClientDisconnect from None


#: Milliseconds after which a browser's EventSource connects again.
_RETRY_MS = 2000


def event_stream(events: AsyncIterator[bytes]) -> ClosingStream:
    """Server-sent events, made by `server_event`."""
    # X-Accel-Buffering: nginx must not hold events back.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return ClosingStream(_with_retry(events), media_type=EVENT_STREAM, headers=headers)


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
    with spooled(parts, bytes_max=bytes_max) as spool:
        async for chunk in request.stream():
            await spool.add(chunk)
        received = await spool.received()
        _check_promise(request, received)
        yield received


@contextmanager
def spooled(parts: Parts, *, bytes_max: int) -> Iterator[Spooled]:
    """A temporary file to be filled, which is gone afterwards. Raises OSError (ENOSPC: disk full)."""
    descriptor, name = tempfile.mkstemp(prefix="body-", dir=parts.spool.folder)
    path = Path(name)
    try:
        yield Spooled(parts, descriptor, path, bytes_max)
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)


def next_chunk(chunks: Iterator[bytes]) -> bytes | None:
    """The next chunk, None at the end: StopIteration can't pass through a coroutine."""
    return next(chunks, None)


class Spooled:
    """Bytes on their way into a temporary file, hashed as they come."""

    def __init__(self, parts: Parts, descriptor: int, path: Path, bytes_max: int) -> None:
        self._parts = parts
        self._descriptor = descriptor
        self._path = path
        self._bytes_max = bytes_max
        self._digest = hashlib.sha256()
        self._block = bytearray()
        self._total = 0

    async def add(self, chunk: bytes) -> None:
        """Raises ApiError 413 beyond `bytes_max`, and OSError (ENOSPC: disk full)."""
        self._total += len(chunk)
        if self._total > self._bytes_max:
            raise too_large(self._bytes_max)
        self._block += chunk
        if len(self._block) >= _BLOCK_BYTES:
            await self._write()

    async def received(self) -> Received:
        """All that was added."""
        await self._write()
        return Received(self._path, self._total, self._digest.hexdigest())

    async def _write(self) -> None:
        await anyio.to_thread.run_sync(self._write_block, limiter=self._parts.spooling)
        self._block = bytearray()

    def _write_block(self) -> None:
        self._digest.update(self._block)
        view = memoryview(self._block)
        while view:
            view = view[os.write(self._descriptor, view) :]
        view.release()


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
