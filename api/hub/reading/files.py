"""/hf/…/resolve: the bytes of a repository's files."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.authentication import TheUser, requires
from api.hub.reading import service
from api.hub.repositories import HubFile, Repository
from api.hub.routes import TheDataset, TheModel, hub_router, refusal
from api.parts import Parts, ThePlatform
from api.stored_files import FILE_RESPONSES, FileWish, send_span, send_stored
from jobspecs.rights import Principal

router = hub_router()
_PATH = "/{owner}/{name}/resolve/{revision}/{path:path}"
_WISH = Annotated[FileWish, Depends()]


@router.head("/datasets" + _PATH, response_class=Response, include_in_schema=False)
@router.get("/datasets" + _PATH, response_class=Response, responses=FILE_RESPONSES)
@requires("datasets.read")
async def dataset_file(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    repository: TheDataset,
    revision: str,
    path: str,
    wish: _WISH,
) -> Response:
    """One file of a data set."""
    return await _sent(platform, user, request, repository, revision, path, wish)


@router.head(_PATH, response_class=Response, include_in_schema=False)
@router.get(_PATH, response_class=Response, responses=FILE_RESPONSES)
@requires("models.read")
async def model_file(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    repository: TheModel,
    revision: str,
    path: str,
    wish: _WISH,
) -> Response:
    """One file of a model."""
    return await _sent(platform, user, request, repository, revision, path, wish)


@router.api_route(
    "/{path:path}",
    methods=["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"],
    response_class=Response,
    include_in_schema=False,
)
@requires("models.read")
async def anything_else(path: str) -> Response:
    """A name without an owner, or what only the hub has. Without the code clients take it for a fault of the server."""
    raise refusal("RepoNotFound", f"There is nothing at /hf/{path[:200]}. Repositories here are called owner/name.")


async def _sent(
    parts: Parts, user: Principal, request: Request, repository: Repository, revision: str, path: str, wish: FileWish
) -> Response:
    """The file, or a redirect to the object store where clients can reach that. Every answer says what it is of."""
    found, file, stored = await run_in_threadpool(service.located, parts, user, repository, revision, path)
    moves = revision not in (found.commit, str(found.version))
    if stored is None:
        response = _made(file, request)
    elif file.span is not None:
        response = await send_span(parts, request, wish, stored, file.span, etag=file.sha256)
    else:
        # Never of a HEAD: some clients would take their token along to another port of the same host.
        reachable = parts.settings.s3_public_endpoint is not None
        wish = replace(wish, redirect=request.method == "GET" and (wish.redirect or reachable))
        response = await send_stored(parts, request, wish, stored, moves=moves)
    response.headers["X-Repo-Commit"] = found.commit
    response.headers["X-Linked-Size"] = str(file.size_bytes)
    response.headers["X-Linked-Etag"] = f'"{file.sha256}"'
    return response


def _made(file: HubFile, request: Request) -> Response:
    """A text that the platform makes. It is short: a range of it is all of it."""
    headers = {"ETag": f'"{file.sha256}"', "Content-Length": str(file.size_bytes), "Cache-Control": "private, no-cache"}
    content = b"" if request.method == "HEAD" else file.text
    return Response(content, headers=headers, media_type="text/markdown; charset=utf-8")
