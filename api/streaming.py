"""Bodies that flow: answers that clean up when the client leaves, and requests that go to a file as they come."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

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
