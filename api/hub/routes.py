"""Routes that refuse in the hub's words: {"error"}, and `X-Error-Code`, which its clients tell refusals apart by."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from api.authentication import GuardedRoute
from api.errors import KNOWN_ERRORS, ApiError, api_error
from api.hub.repositories import KINDS, Repository
from api.parts import Parts
from jobspecs.references import NAME_PATTERN, check_name

ErrorCode = Literal["RepoNotFound", "RevisionNotFound", "EntryNotFound"]
#: What clients take for "the token is wrong", where any other 401 is a repository that they may not see.
_BAD_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105 (a message)
_MESSAGE_CHARS_MAX = 500


class HubRefusal(BaseModel):
    """A refusal, as clients of Hugging Face's hub read it."""

    error: str


class HubRoute(GuardedRoute):
    """Each version of the clients sends parameters of its own: those that nothing reads are let pass."""

    refusal_model = HubRefusal
    strict_query: ClassVar[bool] = False

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handler(request)
            except KNOWN_ERRORS as error:
                return _written(api_error(request, error))

        return answered


def hub_router() -> APIRouter:
    return APIRouter(route_class=HubRoute, tags=["hub"], prefix="/hf")


def address(parts: Parts, request: Request, path: str) -> str:
    """`path` of this server as the client reaches it: a proxy may speak TLS for it."""
    public = parts.settings.public_url
    seen = public if public and urlsplit(public).hostname == request.url.hostname else str(request.base_url)
    return seen.rstrip("/") + path


def refusal(code: ErrorCode, message: str, headers: Mapping[str, str] | None = None) -> ApiError:
    """404 of this kind."""
    return ApiError(404, message, headers={"X-Error-Code": code, **(headers or {})})


def unknown_repository(repository: Repository) -> ApiError:
    """It does not exist, or it is somebody else's; nobody learns which."""
    return refusal("RepoNotFound", f"There is no {repository.noun} {repository}.")


def unknown_revision(repository: Repository, revision: str) -> ApiError:
    there_are = "a version's number, its commit, main" + (", an alias" if repository.kind == "models" else "")
    message = f"{repository} has no revision {revision[:100]!r}; there are: {there_are}."
    return refusal("RevisionNotFound", message)


def unknown_entry(repository: Repository, path: str, commit: str) -> ApiError:
    """Clients keep in mind by its commit that this revision has no such file."""
    return refusal("EntryNotFound", f"{repository} has no {path[:200]!r}.", {"X-Repo-Commit": commit})


async def _repository(
    repo_type: Annotated[str, Path(description="models or datasets")], owner: str, name: str
) -> Repository:
    """Raises ApiError 404 for what can't be the name of one: clients expect it to be unknown, not wrong."""
    return repository_of(repo_type, owner, name)


async def _model(owner: str, name: str) -> Repository:
    return repository_of("models", owner, name)


async def _dataset(owner: str, name: str) -> Repository:
    return repository_of("datasets", owner, name)


def repository_of(kind: str, owner: str, name: str) -> Repository:
    try:
        known = next(known for known in KINDS if known == kind)
        return Repository(known, check_name(owner), check_name(name))
    except (StopIteration, ValueError) as error:
        message = f"There is no {kind[:20]}/{owner[:128]}/{name[:128]}. Names here match {NAME_PATTERN}."
        raise refusal("RepoNotFound", message) from error


#: The repository that the path names: of either kind, a model, a data set.
TheRepository = Annotated[Repository, Depends(_repository)]
TheModel = Annotated[Repository, Depends(_model)]
TheDataset = Annotated[Repository, Depends(_dataset)]


def _written(error: ApiError) -> JSONResponse:
    message = str(error.detail)
    shown = _BAD_TOKEN if error.code == "invalid_token" else message
    # A header holds no line ends and no other characters than these.
    line = " ".join(shown.split())[:_MESSAGE_CHARS_MAX].encode("latin-1", errors="replace").decode("latin-1")
    headers = {"X-Error-Message": line, **(error.headers or {})}
    return JSONResponse({"error": message}, error.status_code, headers)
