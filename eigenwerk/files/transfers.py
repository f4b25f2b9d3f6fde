"""Files on their way: sent with their sha256, received with resumption, checked, and put in place in one step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from eigenwerk.errors import EigenwerkError, TransferCorrupt
from eigenwerk.files.file_parts import FilePart, fetch_parts
from eigenwerk.http.transport import RETRY_DELAYS_S, BodyMaker, Transport, is_passing
from jobspecs.file_errors import why_not
from jobspecs.manifest import ManifestFile, sha256_of
from jobspecs.pieces import PIECE_BYTES_MIN

_CHUNK_BYTES = 1 << 20

#: Told the number of bytes that went by, also from several threads; negative when some must be fetched again.
Progress = Callable[[int], None]


def ignore_progress(count: int) -> None:
    """For callers that don't watch."""


def file_body(path: Path, progress: Progress = ignore_progress) -> BodyMaker:
    """A request body that is read from a file piece by piece, anew at each attempt."""

    def chunks() -> Iterator[bytes]:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
                progress(len(chunk))

    return chunks


def upload_headers(path: Path) -> dict[str, str]:
    """Length and sha256: the server refuses what arrives differently. Raises EigenwerkError when it can't be read."""
    try:
        return {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(path.stat().st_size),
            "X-Content-SHA256": sha256_of(path),
        }
    except OSError as error:
        raise EigenwerkError(f"{path} can't be read: {why_not(error)}.") from error


def download_file(
    transport: Transport,
    url: str,
    file: ManifestFile,
    target: Path,
    progress: Progress = ignore_progress,
    *,
    parts_url: str | None = None,
) -> None:
    """Fetches one stored file to `target`; a large one in parts side by side, where `parts_url` tells of them.

    What is there already with the right sha256 is kept; an interrupted download goes on where it stopped. Raises
    TransferCorrupt, and EigenwerkError when the connection can't be restored or the disk is full.
    """
    if target.is_file() and target.stat().st_size == file.bytes and sha256_of(target) == file.sha256:
        progress(file.bytes)
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The sum in the name: what is left of another version is never continued.
        draft = target.with_name(f".{target.name}.{file.sha256[:16]}.part")
        parts = _parts_of(transport, parts_url) if parts_url and file.bytes > 2 * PIECE_BYTES_MIN else []
        if len(parts) > 1:
            fetch_parts(transport, url, parts, draft, progress)
            _check(file, draft)
        else:
            _receive(transport, url, file, draft, progress)
        draft.replace(target)
    except OSError as error:
        raise EigenwerkError(f"{target} can't be written: {why_not(error)}.") from error


def _receive(transport: Transport, url: str, file: ManifestFile, draft: Path, progress: Progress) -> None:
    """Fills the draft, and checks it."""
    draft.touch()
    progress(draft.stat().st_size)
    delays_s = list(RETRY_DELAYS_S)
    while (have := draft.stat().st_size) < file.bytes:
        try:
            _append(transport, url, file, draft, have, progress)
        except EigenwerkError as error:
            if draft.stat().st_size > have:
                delays_s = list(RETRY_DELAYS_S)
            if not is_passing(error) or not delays_s:
                raise
            transport.sleep(delays_s.pop(0))
    _check(file, draft)


def _parts_of(transport: Transport, parts_url: str) -> list[FilePart]:
    return [FilePart.model_validate(part) for part in transport.call("GET", parts_url)["parts"]]


def _check(file: ManifestFile, draft: Path) -> None:
    """Raises TransferCorrupt, and the draft is gone, when it is not the file."""
    received = sha256_of(draft)
    if draft.stat().st_size != file.bytes or received != file.sha256:
        draft.unlink()
        raise TransferCorrupt(
            f"{file.path} arrived with sha256 {received}, not {file.sha256}. Download it again; if that does not help "
            "the stored object is damaged and must be restored from a backup."
        )


def _append(transport: Transport, url: str, file: ManifestFile, draft: Path, have: int, progress: Progress) -> None:
    headers = {"Accept": "application/octet-stream", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": f'"{file.sha256}"'}
    # From the platform itself: only it knows the file by its sum, which says whether the rest still fits.
    with transport.stream(f"{url}?redirect=false", headers) as response, draft.open("ab") as stream:
        if have and response.status_code != 206:
            # The server sends the whole file instead of the rest.
            stream.truncate(0)
            progress(-have)
        for chunk in response.iter_bytes(_CHUNK_BYTES):
            stream.write(chunk)
            progress(len(chunk))
        stream.flush()
        os.fsync(stream.fileno())
