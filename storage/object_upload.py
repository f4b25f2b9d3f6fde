"""Sending files: one reading pass, hashed on the way, in parallel parts, with nothing left behind on failure."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import IO
from xml.etree.ElementTree import Element, SubElement, tostring

from storage.object_errors import (
    ObjectCorrupt,
    ObjectStoreError,
    ObjectStoreRefused,
    StoredObject,
    TransferStopped,
    checked_key,
)
from storage.object_wire import S3_NAMESPACE, Body, S3Wire, checksum_headers, crc32_base64, parsed_xml, xml_text

log = logging.getLogger(__name__)

#: S3 takes at most this many parts per object.
PARTS_MAX = 10_000
MIB = 1024 * 1024

#: Called as (bytes sent so far, bytes in all), one call at a time, from the threads that send.
Progress = Callable[[int, int], None]
#: Asked before each part; True stops the transfer.
ShouldStop = Callable[[], bool]


def upload(
    wire: S3Wire,
    path: Path,
    key: str,
    *,
    sha256: str | None = None,
    on_progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> StoredObject:
    """Sends the file at `path`; memory is bounded by (parallel_parts + 1) * part_bytes.

    Raises ObjectCorrupt if the bytes read don't have the expected `sha256` or the file changes size meanwhile (then no
    object appears), TransferStopped, and the errors of S3Wire.
    """
    checked_key(key)
    size = path.stat().st_size
    progress = _Counter(size, on_progress)
    stop = should_stop or never
    wire = wire.until(stop)
    with path.open("rb", buffering=0) as file:
        if size <= wire.settings.part_bytes:
            return _upload_whole(wire, file, key, size, sha256, progress, stop)
        return _upload_in_parts(wire, file, key, size, sha256, progress, stop)


def _upload_whole(
    wire: S3Wire, file: IO[bytes], key: str, size: int, sha256: str | None, progress: _Counter, stop: ShouldStop
) -> StoredObject:
    body = bytearray(size)
    _fill(file, memoryview(body), key)
    _check_end(file, key, size)
    digest = hashlib.sha256(body).hexdigest()
    _check_digest(key, sha256, digest)
    check_stop(key, stop)
    wire.request("PUT", key, headers=checksum_headers(body), body=body)
    progress.add(size)
    return StoredObject(key, size, digest)


def _upload_in_parts(
    wire: S3Wire, file: IO[bytes], key: str, size: int, sha256: str | None, progress: _Counter, stop: ShouldStop
) -> StoredObject:
    response = wire.request("POST", key, query={"uploads": ""}, headers={"x-amz-checksum-algorithm": "CRC32"})
    upload_id = xml_text(parsed_xml(response), "UploadId")
    try:
        digest, parts = _send_parts(wire, file, key, size, upload_id, progress, stop)
        _check_end(file, key, size)
        _check_digest(key, sha256, digest)
        _complete(wire, key, size, upload_id, parts)
    except BaseException:
        abort(wire, key, upload_id)
        raise
    return StoredObject(key, size, digest)


@dataclass(frozen=True)
class _Part:
    number: int
    etag: str
    crc32: str


def _send_parts(
    wire: S3Wire, file: IO[bytes], key: str, size: int, upload_id: str, progress: _Counter, stop: ShouldStop
) -> tuple[str, list[_Part]]:
    """Reads and hashes in this thread, sends in others. On the way out, also by an error, no thread sends any more."""
    part_bytes = part_bytes_for(size, wire.settings.part_bytes)
    free: SimpleQueue[bytearray] = SimpleQueue()
    for _ in range(wire.settings.parallel_parts + 1):
        free.put(bytearray(part_bytes))
    digest = hashlib.sha256()
    sent: list[Future[_Part]] = []

    def send(number: int, buffer: bytearray, length: int) -> _Part:
        try:
            part = _send_part(wire, key, upload_id, number, memoryview(buffer)[:length])
            progress.add(length)
            return part
        finally:
            free.put(buffer)

    with ThreadPoolExecutor(wire.settings.parallel_parts, thread_name_prefix="upload") as pool:
        try:
            for number, start in enumerate(range(0, size, part_bytes), start=1):
                buffer = free.get()
                check_stop(key, stop)
                _raise_first_error(sent)
                length = min(part_bytes, size - start)
                _fill(file, memoryview(buffer)[:length], key)
                sent.append(pool.submit(send, number, buffer, length))
                digest.update(memoryview(buffer)[:length])
            parts = [future.result() for future in sent]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    check_stop(key, stop)
    return digest.hexdigest(), parts


def _send_part(wire: S3Wire, key: str, upload_id: str, number: int, body: Body) -> _Part:
    checksum = crc32_base64(body)
    response = wire.request(
        "PUT",
        key,
        query={"partNumber": str(number), "uploadId": upload_id},
        headers={"x-amz-checksum-crc32": checksum},
        body=body,
    )
    return _Part(number, response.headers["ETag"], checksum)


def _complete(wire: S3Wire, key: str, size: int, upload_id: str, parts: list[_Part]) -> None:
    document = Element("CompleteMultipartUpload", xmlns=S3_NAMESPACE.strip("{}"))
    for part in parts:
        element = SubElement(document, "Part")
        SubElement(element, "PartNumber").text = str(part.number)
        SubElement(element, "ETag").text = part.etag
        SubElement(element, "ChecksumCRC32").text = part.crc32
    try:
        response = wire.request("POST", key, query={"uploadId": upload_id}, body=tostring(document))
    except ObjectStoreRefused as error:
        # A lost answer: the first attempt completed the upload, the second no longer finds it.
        if error.code == "NoSuchUpload" and _stored_bytes(wire, key) == size:
            return
        raise
    # S3 may answer 200 at once and send an error in the body later.
    answer = parsed_xml(response)
    if not answer.tag.endswith("CompleteMultipartUploadResult"):
        code = answer.findtext("Code") or "unknown"
        raise ObjectStoreRefused(code, f"The object store didn't complete the upload of {key!r}: {code}.")


def _stored_bytes(wire: S3Wire, key: str) -> int:
    return int(wire.request("HEAD", key).headers.get("Content-Length", "-1"))


def abort(wire: S3Wire, key: str, upload_id: str) -> None:
    """Drops the parts of an upload. A failure is only logged: `abandoned_uploads` will show them."""
    try:
        wire.request("DELETE", key, query={"uploadId": upload_id}, attempts=1)
    except ObjectStoreError as error:
        if not (isinstance(error, ObjectStoreRefused) and error.code == "NoSuchUpload"):
            log.warning("the multipart upload %s of %r could not be aborted: %s", upload_id, key, error)


def part_bytes_for(size: int, wanted_bytes: int) -> int:
    """The size of a part (bytes): as wanted, or whole MiB more if there would be over 10,000 parts."""
    least = math.ceil(size / PARTS_MAX)
    return max(wanted_bytes, math.ceil(least / MIB) * MIB)


class _Counter:
    """Adds up what the threads have sent."""

    def __init__(self, total: int, on_progress: Progress | None) -> None:
        self._total = total
        self._done = 0
        self._lock = Lock()
        self._on_progress = on_progress

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            if self._on_progress:
                self._on_progress(self._done, self._total)


def _fill(file: IO[bytes], view: memoryview, key: str) -> None:
    filled = 0
    while filled < len(view):
        count = file.readinto(view[filled:])  # type: ignore[attr-defined]  # IO lacks it, unbuffered files have it
        if not count:
            raise ObjectCorrupt(key, "a file that keeps its size", "a file that became shorter while it was sent")
        filled += count


def _check_end(file: IO[bytes], key: str, size: int) -> None:
    if file.read(1):
        raise ObjectCorrupt(key, f"a file of {size} bytes", "a file that became longer while it was sent")


def _check_digest(key: str, expected: str | None, found: str) -> None:
    if expected is not None and expected != found:
        raise ObjectCorrupt(key, f"sha256 {expected}", f"sha256 {found}")


def check_stop(key: str, should_stop: ShouldStop) -> None:
    """Raises TransferStopped when the caller wants it."""
    if should_stop():
        raise TransferStopped(f"The transfer of {key!r} was stopped.")


def _raise_first_error(futures: list[Future[_Part]]) -> None:
    for future in futures:
        if future.done() and (error := future.exception()):
            raise error


def never() -> bool:
    """A `should_stop` that does not."""
    return False
