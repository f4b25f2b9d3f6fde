"""/hf: pushing. A push becomes a version; docs/hub.md says when."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.authentication import TheUser, requires
from api.errors import ApiError
from api.hub import pushes
from api.hub.commits import committing
from api.hub.commits.commit_body import BODY_BYTES_MAX, read_commit
from api.hub.repositories import Repository
from api.hub.routes import HubRefusal, TheDataset, TheModel, TheRepository, address, hub_router, repository_of
from api.hub.transfers import uploads, xet
from api.hub.transfers.grants import grant
from api.hub.write_schemas import (
    Batch,
    BatchAnswer,
    Committed,
    PathsToSend,
    RepositoryMade,
    RepositoryWanted,
    Ways,
    XetToken,
    YamlChecked,
)
from api.parts import Parts, ThePlatform
from api.streaming import received_body
from jobspecs.rights import Principal

# A token that may write models may write data sets: whose they must be is asked for each kind (`Repository.writing`).
router = hub_router()
_AT = "/api/{repo_type}/{owner}/{name}"
_LINES: dict[str, Any] = {
    "requestBody": {"content": {"text/plain": {"schema": {"type": "string", "description": "NDJSON"}}}}
}


@router.post("/api/repos/create", responses={409: {"model": RepositoryMade}})
@requires("models.write")
def create(
    platform: ThePlatform, user: TheUser, request: Request, response: Response, body: RepositoryWanted
) -> RepositoryMade:
    """Takes a name. What is pushed to it is private until its owner shares it. 409 names the one that there is."""
    repository = _wanted(user, body)
    if not pushes.create(platform, user, repository):
        response.status_code = 409
    return RepositoryMade(url=_url(platform, request, repository), name=str(repository), id=str(repository))


@router.delete("/api/repos/delete", responses={400: {"model": HubRefusal}, 413: {"model": HubRefusal}})
@requires("models.delete")
def delete(platform: ThePlatform, user: TheUser, body: RepositoryWanted) -> dict[str, Any]:
    """Deletes all versions; 409, and nothing is deleted, while one is in use."""
    pushes.delete(platform, user, _wanted(user, body))
    return {}


@router.post("/api/validate-yaml")
@requires("models.read")
def validate_yaml() -> YamlChecked:
    """Nothing here is decided by the head of a README.md."""
    return YamlChecked()


@router.post(_AT + "/preupload/{revision:path}")
@requires("models.write")
def ways(platform: ThePlatform, user: TheUser, repository: TheRepository, revision: str, body: PathsToSend) -> Ways:
    """How each file shall be sent: in the commit, or before it by its sum."""
    return Ways(files=pushes.ways(platform, user, repository, revision, body.files))


@router.get(_AT + "/xet-write-token/{revision:path}")
@requires("models.write")
def xet_token(
    platform: ThePlatform, user: TheUser, request: Request, repository: TheRepository, revision: str
) -> XetToken:
    """Where chunks are sent, and the grant to do so."""
    pushes.check_branch(repository, revision)
    with platform.database.unit_of_work() as work:
        owner_id = pushes.owner_of(work, user, repository)
    token, ends = grant(platform, request, repository)
    url = address(platform, request, f"/hf/xet/{repository.owner}/{xet.current_period(owner_id)}")
    return XetToken(casUrl=url, accessToken=token, exp=ends)


@router.post(_AT + "/commit/{revision:path}", openapi_extra=_LINES, responses={412: {"model": HubRefusal}})
@requires("models.write")
async def commit(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    repository: TheRepository,
    revision: str,
    create_pr: Annotated[str, Query(description="there are no pull requests: refused")] = "",
) -> Committed:
    """The body is a line of JSON for each operation. A commit that can't be made changes nothing."""
    pushes.check_branch(repository, revision)
    if create_pr not in ("", "0", "false"):
        raise ApiError(400, "There are no pull requests here. Push to main.", code="no_pull_requests")
    async with received_body(request, platform, bytes_max=BODY_BYTES_MAX) as received:
        wanted = await run_in_threadpool(read_commit, received.path)
    made = await committing.apply(platform, request, user, repository, wanted)
    return Committed(commitOid=made, commitUrl=f"{_url(platform, request, repository)}/commit/{made}")


@router.post("/datasets/{owner}/{name}.git/info/lfs/objects/batch", include_in_schema=False)
@requires("datasets.write")
async def dataset_objects(
    platform: ThePlatform, user: TheUser, request: Request, repository: TheDataset, body: Batch
) -> BatchAnswer:
    """Where a data set's large files shall be sent."""
    return await run_in_threadpool(uploads.batch, platform, user, request, repository, body.objects)


@router.post("/{owner}/{name}.git/info/lfs/objects/batch", include_in_schema=False)
@requires("models.write")
async def model_objects(
    platform: ThePlatform, user: TheUser, request: Request, repository: TheModel, body: Batch
) -> BatchAnswer:
    """Where a model's large files shall be sent."""
    return await run_in_threadpool(uploads.batch, platform, user, request, repository, body.objects)


def _wanted(user: Principal, body: RepositoryWanted) -> Repository:
    """Clients name a model by no type. Raises ApiError 404 for other types, such as spaces."""
    return repository_of(f"{body.type or 'model'}s", body.organization or user.name, body.name)


def _url(parts: Parts, request: Request, repository: Repository) -> str:
    """The repository's address. Clients before 1.0 take the last part of HF_ENDPOINT for a type, and a name alone."""
    if repository.kind == "models" and "hf_hub/0." in request.headers.get("User-Agent", ""):
        return str(repository)
    folder = "" if repository.kind == "models" else "datasets/"
    return address(parts, request, f"/hf/{folder}{repository}")
