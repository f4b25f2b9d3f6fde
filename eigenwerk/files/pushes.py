"""Model files on their way to the registry: large ones in pieces, of which only those are sent that aren't there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from eigenwerk.errors import EigenwerkError
from eigenwerk.files.transfers import Progress, file_body, upload_headers
from eigenwerk.http.transport import BodyMaker, Transport
from jobspecs.file_errors import why_not
from jobspecs.pieces import Piece, piece_sizes

#: Pieces that are sent at once.
_SENT_AT_ONCE = 4
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class _Cut:
    """A file as its pieces."""

    path: Path
    sha256: str
    pieces: Sequence[Piece]

    @property
    def bytes(self) -> int:
        return sum(piece.bytes for piece in self.pieces)


def push_files(transport: Transport, files: Mapping[str, Path], name: str, progress: Progress) -> Any:
    """Sends files (path in the model -> where it is) as the next version of `name`; the version, as JSON.

    What the platform has of them isn't sent, so a push that was cut goes on where it stopped when it is made again.
    """
    opened = f"/v1/registry/imports/{transport.call('POST', '/v1/registry/imports', json={'name': name})['id']}"
    large: dict[str, _Cut] = {}
    for path, file in files.items():
        if (cut := _cut(file)) is not None:
            large[path] = cut
            continue
        transport.call(
            "PUT", f"{opened}/files/{quote(path)}", headers=upload_headers(file), body=file_body(file, progress)
        )
    for path, cut in large.items():
        _send_missing(transport, opened, cut, progress)
        told = {"bytes": cut.bytes, "sha256": cut.sha256, "pieces": [piece.model_dump() for piece in cut.pieces]}
        # The platform reads all of it: only that proves the sum of the whole.
        transport.call("POST", f"{opened}/files/{quote(path)}", json=told, repeatable=True)
    # Asked again the server answers with the version that was made.
    return transport.call("POST", f"{opened}/complete", repeatable=True)


def _cut(file: Path) -> _Cut | None:
    """None for a file of one piece, which is sent whole. Raises EigenwerkError when it can't be read."""
    try:
        sizes = piece_sizes(file)
        if len(sizes) == 1:
            return None
        whole, pieces = hashlib.sha256(), []
        with file.open("rb") as stream:
            for size in sizes:
                body = stream.read(size)
                whole.update(body)
                pieces.append(Piece(bytes=len(body), sha256=hashlib.sha256(body).hexdigest()))
        return _Cut(file, whole.hexdigest(), pieces)
    except OSError as error:
        raise EigenwerkError(f"{file} can't be read: {why_not(error)}.") from error


def _send_missing(transport: Transport, opened: str, cut: _Cut, progress: Progress) -> None:
    asked = {"pieces": [piece.model_dump() for piece in cut.pieces]}
    missing = set(transport.call("POST", f"{opened}/pieces", json=asked, repeatable=True)["missing"])
    todo: list[tuple[int, Piece]] = []
    start = 0
    for piece in cut.pieces:
        if piece.sha256 in missing:
            missing.remove(piece.sha256)
            todo.append((start, piece))
        else:
            progress(piece.bytes)
        start += piece.bytes

    def send(start: int, piece: Piece) -> None:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(piece.bytes),
            "X-Content-SHA256": piece.sha256,
        }
        body = _slice(cut.path, start, piece.bytes, progress)
        transport.call("PUT", f"{opened}/pieces/{piece.sha256}", headers=headers, body=body)

    with ThreadPoolExecutor(_SENT_AT_ONCE, thread_name_prefix="push") as pool:
        sending = [pool.submit(send, start, piece) for start, piece in todo]
        try:
            for sent in sending:
                sent.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _slice(path: Path, start: int, size: int, progress: Progress) -> BodyMaker:
    def chunks() -> Iterator[bytes]:
        left = size
        with path.open("rb") as stream:
            stream.seek(start)
            while left and (chunk := stream.read(min(_CHUNK_BYTES, left))):
                yield chunk
                left -= len(chunk)
                progress(len(chunk))

    return chunks
