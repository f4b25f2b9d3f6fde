"""Fetching: byte ranges that survive a broken connection, and whole files in parallel ranges, checked before use."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import urllib3
from urllib3.response import BaseHTTPResponse

from storage.object_errors import (
    ObjectCorrupt,
    ObjectStoreRefused,
    ObjectStoreUnavailable,
    ObjectUnreadable,
    StoredObject,
)
from storage.object_upload import ShouldStop, check_stop, never
from storage.object_wire import S3Wire

#: Bytes handed to the consumer at once.
CHUNK_BYTES = 1024 * 1024
#: SeaweedFS that has just started answers 500, at once, until its volume service has told its master of itself, which
#: it tries every 5 s. An object that fails its checksum gives the same answer after 13 s.
_STARTING_S = 6.0
#: With the usual waits these take 6 to 11 s.
_STARTING_ATTEMPTS = 6


class RangeStream:
    """The bytes `start` (inclusive) to `end` (exclusive) of an object, as chunks of at most 1 MiB; a context manager.

    The first request is made at once, so that a missing object is an error here and not in mid-stream. A broken
    connection is taken up again where it broke, `attempts` times in all. Close it if you don't read to the end.
    `etag` pins the version: if the object is replaced meanwhile, ObjectCorrupt.
    """

    def __init__(self, wire: S3Wire, key: str, start: int, end: int, etag: str | None = None) -> None:
        self._wire = wire
        self._key = key
        self._position = start
        self._end = end
        self._etag = etag
        self._failures = 0
        self._response = self._open() if start < end else None

    def __enter__(self) -> RangeStream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while self._position < self._end:
            self._wire.check_deadline()
            if self._response is None:
                self._response = self._open()
            try:
                chunk = self._response.read(min(CHUNK_BYTES, self._end - self._position))
            except urllib3.exceptions.HTTPError as error:
                self._retry_or_raise(error)
                continue
            if chunk:
                self._position += len(chunk)
                return chunk
            self._retry_or_raise(None)
        self.close()
        raise StopIteration

    def close(self) -> None:
        if self._response is not None:
            drained = self._position >= self._end
            if drained:
                self._response.release_conn()
            else:
                self._response.close()
            self._response = None

    def _retry_or_raise(self, error: Exception | None) -> None:
        self.close()
        self._failures += 1
        if self._failures >= self._wire.settings.attempts:
            raise ObjectStoreUnavailable(
                f"The object store broke off while sending {self._key!r} (byte {self._position} of {self._end})."
            ) from error
        self._wire.back_off(self._failures)

    def _open(self) -> BaseHTTPResponse:
        began = time.monotonic()
        for attempt in itertools.count(1):
            try:
                response = self._request()
                break
            except ObjectStoreUnavailable as error:
                if error.status != HTTPStatus.INTERNAL_SERVER_ERROR or not self._rest_is_fine():
                    raise
                if attempt == _STARTING_ATTEMPTS or time.monotonic() - began > _STARTING_S:
                    raise ObjectUnreadable(self._key, error.status) from error
                self._wire.back_off(attempt + 1)
        # A server that ignores Range would send the object from its first byte.
        if response.status != HTTPStatus.PARTIAL_CONTENT and self._position != 0:
            response.close()
            raise ObjectStoreRefused("InvalidRange", f"The object store ignores byte ranges (asked for {self._key!r}).")
        return response

    def _request(self) -> BaseHTTPResponse:
        headers = {"Range": f"bytes={self._position}-{self._end - 1}"}
        if self._etag:
            headers["If-Match"] = self._etag
        try:
            return self._wire.request("GET", self._key, headers=headers, stream=True)
        except ObjectStoreRefused as error:
            if error.code in ("PreconditionFailed", "412"):
                raise ObjectCorrupt(self._key, f"version {self._etag}", "another version") from error
            if error.code in ("InvalidRange", "416"):
                raise ObjectCorrupt(self._key, f"at least {self._end} bytes", "fewer") from error
            raise

    def _rest_is_fine(self) -> bool:
        """Whether the server answers for the bucket and for the object's entry."""
        try:
            self._wire.request("HEAD")
            self._wire.request("HEAD", self._key)
        except ObjectStoreUnavailable:
            return False
        return True


@dataclass(frozen=True)
class Source:
    """An object whose bytes, all of them, are the next of a file; `etag` pins its version."""

    key: str
    bytes: int
    etag: str | None = None


def download(
    wire: S3Wire,
    sources: Sequence[Source],
    path: Path,
    *,
    sha256: str | None = None,
    should_stop: ShouldStop | None = None,
) -> StoredObject:
    """Fetches the sources, one after the other, into a temporary file beside `path`, checks sha256, then renames.

    `path` is whole or unchanged. Raises TransferStopped, ObjectCorrupt (the temporary file is gone by then), OSError
    if the disk is full, the errors of S3Wire.
    """
    size = sum(source.bytes for source in sources)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        if size:
            # A full disk shows here, not after gigabytes.
            os.posix_fallocate(descriptor, 0, size)
        found = _fetch_parts(wire, sources, descriptor, should_stop or never)
        if sha256 is not None and found != sha256:
            raise ObjectCorrupt(sources[0].key, f"sha256 {sha256}", f"sha256 {found}")
        os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return StoredObject(sources[0].key, size, found)


@dataclass(frozen=True)
class _Range:
    """`start` to `end` of the source, which are the bytes from `position` on of the file."""

    source: Source
    start: int
    end: int
    position: int


def _split(sources: Sequence[Source], part_bytes: int) -> Iterator[_Range]:
    begun = 0
    for source in sources:
        for start in range(0, source.bytes, part_bytes):
            yield _Range(source, start, min(start + part_bytes, source.bytes), begun + start)
        begun += source.bytes


def _fetch_parts(wire: S3Wire, sources: Sequence[Source], descriptor: int, stop: ShouldStop) -> str:
    """Fetches ranges in parallel and hashes each, in order, as soon as it is there (from the page cache)."""
    ranges = list(_split(sources, wire.settings.part_bytes))
    digest = hashlib.sha256()
    with ThreadPoolExecutor(wire.settings.parallel_parts, thread_name_prefix="download") as pool:
        futures: list[Future[None]] = [pool.submit(_fetch_range, wire, descriptor, part, stop) for part in ranges]
        try:
            for future, part in zip(futures, ranges, strict=True):
                future.result()
                end = part.position + part.end - part.start
                for position in range(part.position, end, CHUNK_BYTES):
                    digest.update(os.pread(descriptor, min(CHUNK_BYTES, end - position), position))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return digest.hexdigest()


def _fetch_range(wire: S3Wire, descriptor: int, part: _Range, stop: ShouldStop) -> None:
    key, position = part.source.key, part.position
    check_stop(key, stop)
    with RangeStream(wire, key, part.start, part.end, part.source.etag) as stream:
        for chunk in stream:
            check_stop(key, stop)
            view = memoryview(chunk)
            while view:
                written = os.pwrite(descriptor, view, position)
                position += written
                view = view[written:]
