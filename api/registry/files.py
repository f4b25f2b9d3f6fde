"""/v1/registry/models/…/files/…: the bytes of a model, verified while they flow."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator
from functools import partial
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import quote

from fastapi import Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from api.authentication import TheUser, guarded_router, requires
from api.documented import of_type
from api.errors import ApiError, not_found
from api.metrics import Metrics
from api.parts import Parts, ThePlatform
from api.registry.byte_ranges import NotSatisfiable, parse_range
from api.registry.endpoints import Name, Selector
from api.registry.service import find, selected
from api.streaming import ClosingStream, next_chunk
from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.references import Reference
from jobspecs.rights import Principal
from storage.objects import ObjectCorrupt, RangeStream

log = logging.getLogger(__name__)

router = guarded_router("registry")

#: Seconds for which a presigned URL holds: enough to begin a download.
_REDIRECT_LIFE_S = 600
_PATH = "/v1/registry/models/{owner}/{name}/versions/{selector}/files/{path:path}"


@router.head(_PATH, response_class=Response, include_in_schema=False)
@router.get(
    _PATH,
    response_class=Response,
    responses={
        200: of_type("application/octet-stream", format="binary"),
        206: {},
        302: {},
        304: {},
        416: {},
    },
)
@requires("models.read")
async def get_file(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    owner: Name,
    name: Name,
    selector: Selector,
    path: str,
    redirect: Annotated[bool, Query(description="answer with a presigned URL of the object store")] = False,
    range_: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """One file. `ETag` and `X-Content-SHA256` are its sha256; `Range` (one range) resumes a download.

    A whole file is verified while it is sent: if the stored bytes are not what was registered the connection breaks
    before the last of them, so a damaged file never arrives complete. Who asks for ranges must check the sum.
    """
    reference = selected(owner, name, selector)
    key, file = await run_in_threadpool(_locate, platform, user, reference, path)
    headers = _headers(file, moves=reference.version is None)
    etag = headers["ETag"]
    if if_none_match and (if_none_match.strip() == "*" or etag in [tag.strip() for tag in if_none_match.split(",")]):
        return Response(status_code=304, headers=headers)
    if redirect:
        url = platform.objects.presigned_get(
            key,
            _REDIRECT_LIFE_S,
            filename=PurePosixPath(file.path).name,
            public_endpoint=platform.settings.s3_public_endpoint,
        )
        # The presigned URL expires.
        return RedirectResponse(url, 302, headers=headers | {"Cache-Control": "no-store"})
    try:
        wanted = parse_range(range_ if if_range in (None, etag) else None, file.bytes)
    except NotSatisfiable as error:
        message = f"The file has {file.bytes} bytes; the range lies outside."
        raise ApiError(
            416, message, code="range_not_satisfiable", headers={"Content-Range": f"bytes */{file.bytes}"}
        ) from error
    start, end = wanted or (0, file.bytes)
    headers["Content-Length"] = str(end - start)
    if wanted:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.bytes}"
    status = 206 if wanted else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type="application/octet-stream")
    stream = await platform.transfers.run(partial(platform.objects.open_range, key, start, end))
    metrics: Metrics = request.app.state.metrics
    body = _ranged(platform, stream) if wanted else _verified(platform, stream, key, file, metrics)
    return ClosingStream(body, status, headers=headers, media_type="application/octet-stream")


def _locate(parts: Parts, user: Principal, reference: Reference, path: str) -> tuple[str, ManifestFile]:
    """The object's key and what the manifest says of it. Only what a manifest names can be fetched."""
    with parts.database.unit_of_work() as work:
        row = find(work, user.reach("models.read"), reference)
        file = Manifest.model_validate(row.manifest).file(path)
        if file is None:
            raise not_found(f"file {path!r} in model {reference}")
        return f"{row.prefix}/{file.path}", file


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


async def _ranged(parts: Parts, stream: RangeStream) -> AsyncIterator[bytes]:
    try:
        while chunk := await parts.transfers.run(partial(next_chunk, stream), patient=True):
            yield chunk
    finally:
        stream.close()


async def _verified(
    parts: Parts, stream: RangeStream, key: str, file: ManifestFile, metrics: Metrics
) -> AsyncIterator[bytes]:
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
            log.error("the object %s is damaged: its sha256 is %s, not %s", key, digest.hexdigest(), file.sha256)
            raise ObjectCorrupt(key, f"sha256 {file.sha256}", f"sha256 {digest.hexdigest()}")
        yield held or b""
    finally:
        stream.close()
