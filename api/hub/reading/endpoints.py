"""/hf/api: what the hub's clients ask before they fetch."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qs, quote, urlencode

from fastapi import Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError

from api.authentication import TheUser, requires
from api.errors import ApiError
from api.hub.reading import service
from api.hub.reading.schemas import Commit, ModelInfo, PathsWanted, Refs, RepositoryInfo, TreeEntry, WhoAmI, info_of
from api.hub.repositories import KINDS, MAIN, Kind
from api.hub.routes import TheRepository, address, hub_router, refusal
from api.parts import Parts, ThePlatform
from storage.repositories.registry.hub import Listing

# A token that may read models may read data sets: whose they must be is asked for each kind (`Repository.reading`).
router = hub_router()

#: Entries of one page; the next one is in `Link`.
_PAGE_MAX = 1000
_FORM = "application/x-www-form-urlencoded"
_AT = "/api/{repo_type}/{owner}/{name}"

Info = ModelInfo | RepositoryInfo
Limit = Annotated[int, Query(ge=1, le=_PAGE_MAX)]
#: Where the page before ended.
Cursor = Annotated[str, Query(max_length=1000)]


@router.get("/api/whoami-v2")
@requires("models.read")
def who_am_i(user: TheUser) -> WhoAmI:
    """Who has the token, and what it allows."""
    role = "write" if user.may_try("models.write") else "read"
    token = {"type": "access_token", "accessToken": {"displayName": "eigenwerk", "role": role}}
    return WhoAmI(id=str(user.user_id), name=user.name, fullname=user.name, auth=token)


@router.get("/api/{repo_type}", response_model_exclude_none=True)
@requires("models.read")
def list_repositories(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    response: Response,
    repo_type: str,
    search: Annotated[str, Query(max_length=200)] = "",
    author: Annotated[str, Query(max_length=200)] = "",
    limit: Limit = _PAGE_MAX,
    cursor: Cursor = "",
) -> list[Info]:
    """The newest version of each model or data set that you may read, by name."""
    known = _kind(repo_type)
    # One more than is shown tells whether there is another page.
    found = service.listed(platform, user, known, Listing(search, author, cursor, limit + 1))
    if len(found) > limit:
        _link(platform, request, response, str(found[limit - 1].repository))
    return [info_of(at) for at in found[:limit]]


@router.get(_AT, response_model_exclude_none=True)
@requires("models.read")
def newest(platform: ThePlatform, user: TheUser, repository: TheRepository, blobs: bool = False) -> Info:
    """The newest version."""
    return info_of(service.snapshot(platform, user, repository), blobs=blobs)


@router.get(_AT + "/revision/{revision:path}", response_model_exclude_none=True)
@requires("models.read")
def at_revision(
    platform: ThePlatform, user: TheUser, repository: TheRepository, revision: str, blobs: bool = False
) -> Info:
    """The version that the revision means: its number, its commit, main, or an alias."""
    return info_of(service.snapshot(platform, user, repository, revision), blobs=blobs)


@router.get(_AT + "/tree/{revision}", response_model_exclude_none=True)
@router.get(_AT + "/tree/{revision}/{path:path}", response_model_exclude_none=True)
@requires("models.read")
def tree(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    response: Response,
    repository: TheRepository,
    revision: str,
    path: str = "",
    recursive: bool = False,
    expand: bool = False,
    limit: Limit = _PAGE_MAX,
    cursor: Cursor = "",
) -> list[TreeEntry]:
    """Files and folders, by path."""
    found = service.snapshot(platform, user, repository, revision)
    entries = service.tree(found, path, recursive=recursive, expand=expand)
    entries = [entry for entry in entries if entry.path > cursor]
    if len(entries) > limit:
        _link(platform, request, response, entries[limit - 1].path)
    return entries[:limit]


@router.post(
    _AT + "/paths-info/{revision:path}",
    response_model_exclude_none=True,
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": PathsWanted.model_json_schema()}}}},
)
@requires("models.read")
async def paths_info(
    platform: ThePlatform, user: TheUser, request: Request, repository: TheRepository, revision: str
) -> list[TreeEntry]:
    """Of these paths those that are there. The body is JSON, or a form."""
    found = await run_in_threadpool(service.snapshot, platform, user, repository, revision)
    wanted = await _paths(request)
    return service.entries_at(found, wanted.paths, expand=wanted.expand)


@router.get(_AT + "/refs")
@requires("models.read")
def refs(platform: ThePlatform, user: TheUser, repository: TheRepository) -> Refs:
    """Branches and tags."""
    return service.refs(platform, user, repository)


@router.get(_AT + "/commits/{revision:path}")
@requires("models.read")
def commits(platform: ThePlatform, user: TheUser, repository: TheRepository, revision: str) -> list[Commit]:
    """The versions, newest first."""
    return service.commits(platform, user, repository, revision)


@router.get(_AT + "/auth-check")
@requires("models.read")
def check_access(platform: ThePlatform, user: TheUser, repository: TheRepository) -> dict[str, Any]:
    """200 for what you may read."""
    service.snapshot(platform, user, repository, MAIN)
    return {}


def _kind(text: str) -> Kind:
    known = next((kind for kind in KINDS if kind == text), None)
    if known is None:
        raise refusal("RepoNotFound", f"There is nothing at /hf/api/{text[:100]}.")
    return known


async def _paths(request: Request) -> PathsWanted:
    """Raises ApiError 422."""
    try:
        if request.headers.get("content-type", "").startswith(_FORM):
            form = parse_qs((await request.body()).decode("utf-8", errors="replace"))
            return PathsWanted(paths=form.get("paths", []), expand=form.get("expand") == ["true"])
        return PathsWanted.model_validate(await request.json())
    except ValidationError as error:
        raise ApiError(422, "The body must be {paths: [text], expand?: true or false}.") from error


def _link(parts: Parts, request: Request, response: Response, cursor: str) -> None:
    """Names the next page."""
    query = urlencode({**request.query_params, "cursor": cursor})
    response.headers["Link"] = f'<{address(parts, request, quote(request.url.path))}?{query}>; rel="next"'
