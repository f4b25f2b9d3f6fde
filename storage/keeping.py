"""Keeps files in the object store piece by piece; what is there already isn't sent."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from jobspecs.pieces import Piece, StoredFile, StoredPiece, piece_sizes
from storage.database import Database
from storage.objects import ObjectCorrupt, ObjectNotFound, ObjectStore, TransferStopped
from storage.repositories.registry.blobs import BlobsGone, stored_piece

ShouldStop = Callable[[], bool]


def keep_file(
    database: Database, store: ObjectStore, file: Path, path: str, *, sha256: str, should_stop: ShouldStop
) -> StoredFile:
    """Stores what `file` consists of, as the file `path`, and holds it for HELD_S: until then something must refer.

    It is read once, while pieces are sent side by side; memory is bounded by a few pieces. Raises ObjectCorrupt when
    it isn't what `sha256` promises, TransferStopped, DatabaseUnavailable and the errors of the object store.
    """
    at_once = max(2, store.settings.parallel_parts // 2)
    digest = hashlib.sha256()
    sent: deque[Future[StoredPiece]] = deque()
    kept: list[StoredPiece] = []
    with ThreadPoolExecutor(at_once, thread_name_prefix="keep") as pool:
        try:
            for body in _bodies(file, path):
                digest.update(body)
                sent.append(pool.submit(_keep, database, store, body, path, should_stop))
                if len(sent) > at_once:
                    kept.append(sent.popleft().result())
            kept += [future.result() for future in sent]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if digest.hexdigest() != sha256:
        raise ObjectCorrupt(path, f"sha256 {sha256}", f"sha256 {digest.hexdigest()}")
    size = sum(piece.bytes for piece in kept)
    return StoredFile(path=path, bytes=size, sha256=sha256, pieces=tuple(kept))


def keep_piece(database: Database, store: ObjectStore, body: bytes) -> StoredPiece:
    """Stores bytes, unless they are there, and holds them for HELD_S.

    Raises BlobsGone when that took longer, DatabaseUnavailable and the errors of the object store.
    """
    piece = Piece(bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
    with database.unit_of_work() as work:
        row = work.blobs.hold([piece])[piece.sha256]
    if row.stored_at is not None and _is_there(store, row.key, piece.bytes):
        return stored_piece(row)
    store.put_bytes(row.key, body)
    with database.unit_of_work() as work:
        if not work.blobs.mark_stored(row.id):
            raise BlobsGone("Content that was being sent is gone: the push took too long. Send it again.")
    return stored_piece(row)


def as_one_object(database: Database, store: ObjectStore, file: StoredFile, *, for_s: float) -> str:
    """The key of an object with the whole file, for who needs one; it stays for `for_s` seconds from now.

    A file of several pieces is put together by the object store when it is first asked for so. Raises BlobsGone when
    the file was deleted meanwhile, and the errors of the object store.
    """
    if len(file.pieces) == 1:
        return file.pieces[0].key
    whole = Piece(bytes=file.bytes, sha256=file.sha256)
    with database.unit_of_work() as work:
        row = work.blobs.hold([whole], for_s=for_s)[whole.sha256]
    if row.stored_at is None or not _is_there(store, row.key, file.bytes):
        store.compose(file.pieces, row.key)
        with database.unit_of_work() as work:
            if not work.blobs.mark_stored(row.id):
                raise BlobsGone("The file was put together too slowly. Ask again.")
    return row.key


def _keep(database: Database, store: ObjectStore, body: bytes, path: str, should_stop: ShouldStop) -> StoredPiece:
    if should_stop():
        raise TransferStopped(f"The transfer of {path!r} was stopped.")
    return keep_piece(database, store, body)


def _bodies(file: Path, path: str) -> Iterator[bytes]:
    sizes = piece_sizes(file)
    with file.open("rb") as stream:
        for size in sizes:
            body = stream.read(size)
            if len(body) != size:
                raise ObjectCorrupt(path, "a file that keeps its size", "a file that became shorter while it was sent")
            yield body
        if stream.read(1):
            raise ObjectCorrupt(path, f"{sum(sizes)} bytes", "a file that became longer while it was sent")


def _is_there(store: ObjectStore, key: str, size: int) -> bool:
    """Asks the store: a row may be right and the object lost, and then this push brings it back."""
    try:
        return store.stat(key).bytes == size
    except ObjectNotFound:
        return False
