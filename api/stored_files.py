"""A stored file as an answer: one range or all of it, verified while it flows."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Header, Query, Request, Response
from fastapi.responses import RedirectResponse

from api.byte_ranges import NotSatisfiable, parse_range
from api.documented import of_type
from api.errors import ApiError
from api.metrics import Metrics
from api.object_links import direct_endpoint, link_to_object
from api.parts import Parts
from api.streaming import ClosingStream, next_chunk
from jobspecs.manifest import ManifestFile
from jobspecs.pieces import StoredFile
from storage.objects import ObjectCorrupt, ObjectNotFound, PiecesStream

log = logging.getLogger(__name__)

#: Seconds for which a presigned URL holds: enough to begin a download.
REDIRECT_LIFE_S = 600
#: The answers of a route that sends such a file, for its OpenAPI description.
FILE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: of_type("application/octet-stream", format="binary"),
    206: {},
    302: {},
    304: {},
    416: {},
}


@dataclass(frozen=True)
class FileWish:
    """Which bytes the client wants, and how; a dependency of the routes that send files."""

    redirect: Annotated[
        bool | None,
        Query(description="answer with a presigned URL of the object store; unless told, where it can be reached"),
    ] = None
    range_: Annotated[str | None, Header(alias="Range")] = None
    if_range: Annotated[str | None, Header()] = None
    if_none_match: Annotated[str | None, Header()] = None


async def send_stored(platform: Parts, request: Request, wish: FileWish, file: StoredFile, *, moves: bool) -> Response:
    """`moves`: the URL may mean another file tomorrow.

    Raises ApiError(416).
    """
    headers = _headers(file, moves=moves)
    etag = headers["ETag"]
    if wish.if_none_match and (
        wish.if_none_match.strip() == "*" or etag in [tag.strip() for tag in wish.if_none_match.split(",")]
    ):
        return Response(status_code=304, headers=headers)
    endpoint = direct_endpoint(platform.settings, request)
    # The store knows other ETags: what goes on only if the file is the same must be asked for here.
    unasked = wish.redirect is None and endpoint is not None and request.method == "GET" and wish.if_range is None
    if wish.redirect or unasked:
        url = await link_to_object(platform, file, endpoint, REDIRECT_LIFE_S)
        # The presigned URL expires.
        return RedirectResponse(url, 302, headers=headers | {"Cache-Control": "no-store"})
    wanted = _wanted(wish, etag, file.bytes)
    start, end = wanted or (0, file.bytes)
    headers |= _lengths(wanted, file.bytes)
    status = 206 if wanted else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type="application/octet-stream")
    try:
        stream = await platform.transfers.run(partial(platform.objects.open_stored, file, start, end))
    except (ObjectNotFound, ObjectCorrupt):
        await platform.lookups.run(partial(_doubt, platform, file))
        raise
    metrics: Metrics = request.app.state.metrics
    body = _ranged(platform, stream) if wanted else _verified(platform, stream, file, metrics)
    return ClosingStream(body, status, headers=headers, media_type="application/octet-stream")


async def send_span(
    platform: Parts, request: Request, wish: FileWish, file: StoredFile, span: tuple[int, int], *, etag: str
) -> Response:
    """The bytes from span[0] up to, not including, span[1] of `file`, as a file of its own. Raises ApiError(416)."""
    size = span[1] - span[0]
    headers = {"ETag": f'"{etag}"', "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"}
    wanted = _wanted(wish, headers["ETag"], size)
    start, end = wanted or (0, size)
    headers |= _lengths(wanted, size)
    status = 206 if wanted else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type="application/octet-stream")
    open_stream = partial(platform.objects.open_stored, file, span[0] + start, span[0] + end)
    body = _ranged(platform, await platform.transfers.run(open_stream))
    return ClosingStream(body, status, headers=headers, media_type="application/octet-stream")


def _wanted(wish: FileWish, etag: str, size: int) -> tuple[int, int] | None:
    """The range that is wanted of so many bytes; None for all of them. Raises ApiError(416)."""
    try:
        return parse_range(wish.range_ if wish.if_range in (None, etag) else None, size)
    except NotSatisfiable as error:
        message = f"The file has {size} bytes; the range lies outside."
        raise ApiError(
            416, message, code="range_not_satisfiable", headers={"Content-Range": f"bytes */{size}"}
        ) from error


def _lengths(wanted: tuple[int, int] | None, size: int) -> dict[str, str]:
    start, end = wanted or (0, size)
    headers = {"Content-Length": str(end - start)}
    return headers | {"Content-Range": f"bytes {start}-{end - 1}/{size}"} if wanted else headers


def _doubt(platform: Parts, file: StoredFile) -> None:
    """Lets the next push of this content bring it back."""
    with platform.database.unit_of_work() as work:
        work.blobs.doubt([piece.key for piece in file.pieces])


def _headers(file: ManifestFile, *, moves: bool) -> dict[str, str]:
    """`moves`: the URL names an alias or `latest`, which may mean another version tomorrow."""
    name = quote(PurePosixPath(file.path).name)
    return {
        "ETag": f'"{file.sha256}"',
        "X-Content-SHA256": file.sha256,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        # A version's file never changes; the answer is for this user only.
        "Cache-Control": "private, no-cache" if moves else "private, max-age=31536000, immutable",
    }


async def _ranged(parts: Parts, stream: PiecesStream) -> AsyncIterator[bytes]:
    try:
        while chunk := await parts.transfers.run(partial(next_chunk, stream), patient=True):
            yield chunk
    finally:
        stream.close()


async def _verified(parts: Parts, stream: PiecesStream, file: StoredFile, metrics: Metrics) -> AsyncIterator[bytes]:
    """The whole file, one chunk behind what was read: the last goes out only when the sum is right."""
    digest = hashlib.sha256()

    def read() -> bytes | None:
        chunk = next_chunk(stream)
        digest.update(chunk or b"")
        return chunk

    try:
        held = await parts.transfers.run(read, patient=True)
        while chunk := await parts.transfers.run(read, patient=True):
            yield held or b""
            held = chunk
        if digest.hexdigest() != file.sha256:
            metrics.damaged_transfers.inc()
            key = ", ".join(piece.key for piece in file.pieces)
            log.error("the object %s is damaged: its sha256 is %s, not %s", key, digest.hexdigest(), file.sha256)
            await parts.lookups.run(partial(_doubt, parts, file))
            raise ObjectCorrupt(key, f"sha256 {file.sha256}", f"sha256 {digest.hexdigest()}")
        yield held or b""
    finally:
        stream.close()
