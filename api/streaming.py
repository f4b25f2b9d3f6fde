"""Bodies that flow: answers that clean up when the client leaves, and requests that go to a file as they come."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Send

from api.errors import ApiError
from api.parts import Parts

log = logging.getLogger(__name__)

_SPOOL_PREFIX = "eigenwerk-body-"
_STARTED_AT_S = time.time()
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

    Raises ApiError: 413 beyond `bytes_max`, 422 when `X-Content-SHA256` differs, 507 when the disk is full.
    """
    if int(request.headers.get("content-length") or 0) > bytes_max:
        raise _too_large(bytes_max)
    descriptor, name = tempfile.mkstemp(prefix=_SPOOL_PREFIX, dir=parts.settings.spool_dir)
    path = Path(name)
    try:
        # The lock ends with the process: it tells a body that is being received from one that was left behind.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        received = await _receive(request, parts, descriptor, path, bytes_max)
        _check_promise(request, received)
        yield received
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)


def sweep_spool(folder: Path) -> None:
    """Deletes the bodies that killed processes left in `folder`: older than this process, and nobody's any more."""
    for path in folder.glob(f"{_SPOOL_PREFIX}*"):
        try:
            _delete_if_left(path)
        except OSError as error:
            # Gone by now, or another user's in a shared folder.
            log.info("%s is left alone: %s", path, error)


def _delete_if_left(path: Path) -> None:
    if path.is_symlink() or not path.is_file() or path.stat().st_mtime >= _STARTED_AT_S:
        return
    with path.open("rb") as body:
        try:
            fcntl.flock(body, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        log.info("deleting %s: the process that received it is gone", path)
        path.unlink()


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

    try:
        async for chunk in request.stream():
            total += len(chunk)
            if total > bytes_max:
                raise _too_large(bytes_max)
            block += chunk
            if len(block) >= _BLOCK_BYTES:
                await anyio.to_thread.run_sync(write, limiter=parts.spooling)
                block = bytearray()
        await anyio.to_thread.run_sync(write, limiter=parts.spooling)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = "The server's disk is full. Free space in its spool folder (EIGENWERK_SPOOL_DIR) and send it again."
        raise ApiError(507, message, code="disk_full") from error
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


def _too_large(bytes_max: int) -> ApiError:
    return ApiError(413, f"The file is larger than {bytes_max:,} bytes, the limit of this server.")
