"""A large file in parts that are fetched side by side, from the object store where it can be reached."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from pydantic import BaseModel

from eigenwerk.errors import EigenwerkError
from eigenwerk.http.transport import RETRY_DELAYS_S, Transport

_FETCHED_AT_ONCE = 4
_CHUNK_BYTES = 1 << 20


class FilePart(BaseModel):
    """Bytes of a file, their sha256, and a link of the object store, where it can be reached."""

    start: int
    bytes: int
    sha256: str
    url: str | None = None


def fetch_parts(
    transport: Transport, url: str, parts: Sequence[FilePart], draft: Path, progress: Callable[[int], None]
) -> None:
    """Fills the draft. What an earlier call left in it is read, and kept where its sha256 is right.

    `url` is the whole file's: what a link doesn't give is taken from there. Raises EigenwerkError.
    """
    guard = Lock()

    def told(count: int) -> None:
        with guard:
            progress(count)

    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with ThreadPoolExecutor(_FETCHED_AT_ONCE, thread_name_prefix="download") as pool:
            fetched = [pool.submit(_fetch, transport, url, part, descriptor, told) for part in parts]
            try:
                for done in fetched:
                    done.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fetch(transport: Transport, url: str, part: FilePart, descriptor: int, progress: Callable[[int], None]) -> None:
    if _is_there(descriptor, part):
        progress(part.bytes)
        return
    delays_s = list(RETRY_DELAYS_S)
    source = part.url
    while True:
        received = 0
        try:
            for chunk in _chunks(transport, source, url, part):
                os.pwrite(descriptor, chunk, part.start + received)
                received += len(chunk)
                progress(len(chunk))
            if _is_there(descriptor, part):
                return
            problem = EigenwerkError(f"A part of the file arrived damaged ({part.sha256}). Download it again.")
        except EigenwerkError as error:
            problem = error
        progress(-received)
        if not delays_s:
            raise problem
        transport.sleep(delays_s.pop(0))
        # The link may have expired, or the store be out of reach from here: the platform gives the same bytes.
        source = None


def _chunks(transport: Transport, source: str | None, url: str, part: FilePart) -> Iterator[bytes]:
    """The part's bytes, and not one more."""
    headers = {"Accept": "application/octet-stream", "Accept-Encoding": "identity"}
    if source is None:
        source = f"{url}?redirect=false"
        headers["Range"] = f"bytes={part.start}-{part.start + part.bytes - 1}"
    left = part.bytes
    with transport.stream(source, headers) as response:
        for chunk in response.iter_bytes(_CHUNK_BYTES):
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return


def _is_there(descriptor: int, part: FilePart) -> bool:
    digest = hashlib.sha256()
    for start in range(part.start, part.start + part.bytes, _CHUNK_BYTES):
        digest.update(os.pread(descriptor, min(_CHUNK_BYTES, part.start + part.bytes - start), start))
    return digest.hexdigest() == part.sha256
