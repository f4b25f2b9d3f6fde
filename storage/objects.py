"""The object store: artifacts, data sets and checkpoints in any S3 (MinIO, SeaweedFS, AWS, ...).

Safe to share between threads, not across a fork. Keys are built by the server, never by users.

    store = ObjectStore(ObjectSettings("http://127.0.0.1:8333", access_key, secret_key, bucket="eigenwerk"))
    stored = store.upload_file(Path("model.safetensors"), "artifacts/7/1/model.safetensors")
    store.download_file(stored.key, Path("copy.safetensors"), sha256=stored.sha256)

Every call may raise ObjectStoreUnavailable (try again later) and ObjectStoreRefused (mend the settings first).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, SubElement, tostring

from jobspecs.pieces import StoredFile, StoredPiece
from storage.object_delete import DELETE_BATCH, delete_batch
from storage.object_download import RangeStream, Source, download
from storage.object_errors import (
    AbandonedUpload,
    ObjectCorrupt,
    ObjectInfo,
    ObjectNotFound,
    ObjectStoreError,
    ObjectStoreFull,
    ObjectStoreRefused,
    ObjectStoreUnavailable,
    ObjectTooLarge,
    ObjectUnreadable,
    StoredObject,
    TransferStopped,
    WantedObject,
    checked_key,
)
from storage.object_pieces import PiecesStream, compose
from storage.object_upload import Progress, ShouldStop, abort, upload
from storage.object_wire import (
    ObjectSettings,
    S3Wire,
    attachment,
    check_presign_lifetime,
    checksum_headers,
    parsed_xml,
    xml_all,
    xml_text,
)

__all__ = [
    "AbandonedUpload",
    "ObjectCorrupt",
    "ObjectInfo",
    "ObjectNotFound",
    "ObjectSettings",
    "ObjectStore",
    "ObjectStoreError",
    "ObjectStoreFull",
    "ObjectStoreRefused",
    "ObjectStoreUnavailable",
    "ObjectTooLarge",
    "ObjectUnreadable",
    "PiecesStream",
    "RangeStream",
    "StoredObject",
    "TransferStopped",
    "WantedObject",
    "checked_key",
]


class ObjectStore:
    """One bucket of one S3 server."""

    def __init__(
        self, settings: ObjectSettings, sleep: Callable[[float], None] = time.sleep, *, wire: S3Wire | None = None
    ) -> None:
        self.settings = settings
        self._wire = wire or S3Wire(settings, sleep)

    def close(self) -> None:
        """Closes the idle connections."""
        self._wire.close()

    def within(self, seconds: float) -> ObjectStore:
        """This store for calls that must all have ended `seconds` from now: ObjectStoreUnavailable after that."""
        return ObjectStore(self.settings, wire=self._wire.within(seconds))

    def healthy(self) -> None:
        """Returns if the bucket can be used now; one attempt. Raises ObjectStoreUnavailable or ObjectStoreRefused."""
        self._wire.request("HEAD", attempts=1)

    def ensure_bucket(self) -> None:
        """Makes the bucket unless it is there."""
        try:
            self._wire.request("HEAD")
        except ObjectStoreRefused as error:
            if error.code != "NoSuchBucket":
                raise
            self._make_bucket()

    def upload_file(
        self,
        path: Path,
        key: str,
        *,
        sha256: str | None = None,
        on_progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> StoredObject:
        """Sends a file in one reading pass, in parallel parts if it is large, and returns its sha256 and size.

        `on_progress(bytes_sent, bytes_total)` is called from the sending threads, one call at a time; `should_stop()`
        is asked before each part. Raises ObjectCorrupt if the file isn't what `sha256` promises; TransferStopped.
        After any error the key has no new object, and the parts already sent are dropped.
        """
        return upload(self._wire, path, key, sha256=sha256, on_progress=on_progress, should_stop=should_stop)

    def upload_tree(
        self,
        root: Path,
        files: Sequence[str],
        prefix: str,
        *,
        on_progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Sequence[StoredObject]:
        """Sends `root`/file to `prefix`/file for each relative path, in the order given; small files in parallel.

        `on_progress` is told the bytes of whole files.
        """
        sizes = {name: (root / checked_key(name)).stat().st_size for name in files}
        total, done = sum(sizes.values()), 0

        def send(name: str) -> StoredObject:
            return upload(self._wire, root / name, f"{prefix.rstrip('/')}/{name}", should_stop=should_stop)

        stored: dict[str, StoredObject] = {}
        for name, result in self._each(send, sizes):
            stored[name] = result
            done += result.bytes
            if on_progress:
                on_progress(done, total)
        return [stored[name] for name in files]

    def put_bytes(self, key: str, body: bytes) -> StoredObject:
        """Stores a small object (all of it is in memory)."""
        self._wire.request("PUT", checked_key(key), headers=checksum_headers(body), body=body)
        return StoredObject(key, len(body), hashlib.sha256(body).hexdigest())

    def get_bytes(self, key: str, *, max_bytes: int = 16 * 1024 * 1024) -> bytes:
        """Reads a small object. Raises ObjectNotFound; ObjectTooLarge beyond `max_bytes`."""
        info = self.stat(key)
        if info.bytes > max_bytes:
            raise ObjectTooLarge(f"The object {key!r} has {info.bytes} bytes; at most {max_bytes} were expected.")
        with self.open_range(key, 0, info.bytes, etag=info.etag) as stream:
            return b"".join(stream)

    def open_range(self, key: str, start: int, end: int, *, etag: str | None = None) -> RangeStream:
        """The bytes from `start` up to, not including, `end` (cf. `stat(key).bytes`), as an iterator of chunks.

        Raises ObjectNotFound at once. Close the stream (`with`) if you may stop early.
        """
        return RangeStream(self._wire, checked_key(key), start, end, etag)

    def download_file(
        self,
        key: str,
        path: Path,
        *,
        sha256: str | None = None,
        bytes_total: int | None = None,
        should_stop: ShouldStop | None = None,
    ) -> StoredObject:
        """Fetches an object through a temporary file: afterwards `path` is whole and checked, or as it was before.

        `should_stop()` is asked at least once per MiB: TransferStopped. Raises ObjectNotFound; ObjectCorrupt (length,
        sha256 or unreadable); OSError (ENOSPC: disk full).
        """
        info = self.stat(key)
        if bytes_total is not None and info.bytes != bytes_total:
            raise ObjectCorrupt(key, f"{bytes_total} bytes", f"{info.bytes} bytes")
        source = Source(key, info.bytes, info.etag)
        return download(self._wire, [source], path, sha256=sha256, should_stop=should_stop)

    def download_stored(self, file: StoredFile, path: Path, *, should_stop: ShouldStop | None = None) -> StoredObject:
        """Fetches a file whose bytes are pieces, as `download_file`."""
        if len(file.pieces) == 1:
            return self.download_file(
                file.pieces[0].key, path, sha256=file.sha256, bytes_total=file.bytes, should_stop=should_stop
            )
        sources = [Source(piece.key, piece.bytes) for piece in file.pieces]
        return download(self._wire, sources, path, sha256=file.sha256, should_stop=should_stop)

    def open_stored(self, file: StoredFile, start: int, end: int) -> PiecesStream:
        """As `open_range`, of a file whose bytes are pieces."""
        return PiecesStream(self._wire, file.pieces, start, end)

    def compose(self, pieces: Sequence[StoredPiece], key: str) -> None:
        """Makes one object of pieces; the server copies them. Each but the last must have 5 MiB or more."""
        compose(self._wire, pieces, checked_key(key))

    def download_tree(
        self, prefix: str, wanted: Iterable[WantedObject], root: Path, *, should_stop: ShouldStop | None = None
    ) -> Sequence[StoredObject]:
        """Fetches `prefix`/path to `root`/path for each entry of a manifest, checking size and sha256 of each."""
        entries = {checked_key(entry.path): entry for entry in wanted}

        def fetch(path: str) -> StoredObject:
            entry, target = entries[path], root / PurePosixPath(path)
            if not target.resolve().is_relative_to(root.resolve()):
                raise ValueError(f"{path!r} leads out of the folder {root}.")
            key = f"{prefix.rstrip('/')}/{path}"
            return self.download_file(
                key, target, sha256=entry.sha256, bytes_total=entry.bytes, should_stop=should_stop
            )

        fetched = dict(self._each(fetch, {path: entry.bytes for path, entry in entries.items()}))
        return [fetched[path] for path in entries]

    def presigned_get(
        self,
        key: str,
        expires_s: int,
        *,
        filename: str | None = None,
        public_endpoint: str | None = None,
        signed_at: datetime | None = None,
    ) -> str:
        """A URL that anyone may GET for `expires_s` seconds (1 to 604,800). No request is made.

        `filename` is what a browser saves it as; `public_endpoint` is the server's address as its users see it.
        """
        check_presign_lifetime(expires_s)
        query = {"response-content-disposition": attachment(filename)} if filename else {}
        return self._wire.presigned_get(
            checked_key(key), expires_s, query, public_endpoint, signed_at or datetime.now(UTC)
        )

    def stat(self, key: str) -> ObjectInfo:
        """Size, ETag and time of an object. Raises ObjectNotFound."""
        headers = self._wire.request("HEAD", checked_key(key)).headers
        return ObjectInfo(
            key,
            int(headers["Content-Length"]),
            headers.get("ETag", ""),
            parsedate_to_datetime(headers["Last-Modified"]),
        )

    def holds(self, key: str, *, sha256: str, bytes_total: int) -> bool:
        """Whether the object is there and its bytes, all of them read, are the promised ones."""
        digest = hashlib.sha256()
        try:
            info = self.stat(key)
            if info.bytes != bytes_total:
                return False
            with self.open_range(key, 0, info.bytes, etag=info.etag) as stream:
                for chunk in stream:
                    digest.update(chunk)
        except (ObjectNotFound, ObjectCorrupt):
            return False
        return digest.hexdigest() == sha256

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        """All objects whose key begins with `prefix` (end it with a slash to mean a folder), in the order of keys.

        `after`: only those whose key comes after this one. A thousand are asked for at once.
        """
        start = {"start-after": after} if after else {}
        token = ""
        while True:
            query = {"list-type": "2", "prefix": prefix} | ({"continuation-token": token} if token else start)
            page = parsed_xml(self._wire.request("GET", query=query))
            for entry in xml_all(page, "Contents"):
                modified_at = datetime.fromisoformat(xml_text(entry, "LastModified"))
                yield ObjectInfo(
                    xml_text(entry, "Key"), int(xml_text(entry, "Size")), xml_text(entry, "ETag"), modified_at
                )
            token = xml_text(page, "NextContinuationToken")
            if xml_text(page, "IsTruncated") != "true" or not token:
                return

    def delete(self, prefix: str) -> int:
        """Deletes the object `prefix` and all under `prefix`/ (`a/1` spares `a/10`); returns how many there were."""
        folder = checked_key(prefix.rstrip("/"))
        # Read first, then delete: a listing that is deleted under its own feet may skip entries.
        keys = [info.key for info in self.list(folder) if info.key == folder or info.key.startswith(f"{folder}/")]
        for start in range(0, len(keys), DELETE_BATCH):
            delete_batch(self._wire, keys[start : start + DELETE_BATCH])
        return len(keys)

    def abandoned_uploads(self, prefix: str = "") -> Iterator[AbandonedUpload]:
        """Multipart uploads that are neither complete nor aborted; those of running transfers are among them."""
        query = {"uploads": "", "prefix": prefix}
        while True:
            page = parsed_xml(self._wire.request("GET", query=query))
            for entry in xml_all(page, "Upload"):
                started_at = datetime.fromisoformat(xml_text(entry, "Initiated"))
                yield AbandonedUpload(xml_text(entry, "Key"), xml_text(entry, "UploadId"), started_at)
            if xml_text(page, "IsTruncated") != "true":
                return
            query |= {
                "key-marker": xml_text(page, "NextKeyMarker"),
                "upload-id-marker": xml_text(page, "NextUploadIdMarker"),
            }

    def abort_upload(self, upload: AbandonedUpload) -> None:
        """Drops an abandoned upload and its parts."""
        abort(self._wire, upload.key, upload.upload_id)

    def _make_bucket(self) -> None:
        document = b""
        if self.settings.region != "us-east-1":
            element = Element("CreateBucketConfiguration")
            SubElement(element, "LocationConstraint").text = self.settings.region
            document = tostring(element)
        try:
            self._wire.request("PUT", body=document)
        except ObjectStoreRefused as error:
            if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise

    def _each(self, job: Callable[[str], StoredObject], sizes: dict[str, int]) -> Iterator[tuple[str, StoredObject]]:
        """Runs `job` for each name: small files side by side, then large ones in turn (they are parallel inside)."""
        small = [name for name, size in sizes.items() if size <= self.settings.part_bytes]
        with ThreadPoolExecutor(self.settings.parallel_parts, thread_name_prefix="objects") as pool:
            futures = {name: pool.submit(job, name) for name in small}
            try:
                for name, future in futures.items():
                    yield name, future.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        for name in sizes:
            if name not in futures:
                yield name, job(name)
