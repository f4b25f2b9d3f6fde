"""/hf/api/…: who sees a repository, and aliases, which clients make as tags."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from api.authentication import TheUser, requires
from api.datasets import service as dataset_service
from api.datasets.schemas import DatasetChange
from api.errors import ApiError
from api.hub.reading import service
from api.hub.repositories import Repository
from api.hub.routes import TheRepository, hub_router, unknown_revision
from api.parts import Parts, ThePlatform
from api.registry import aliases
from api.registry import service as model_service
from api.registry.alias_schemas import AliasTarget
from api.registry.schemas import ModelChange
from jobspecs.rights import Principal, Visibility

router = hub_router()
_AT = "/api/{repo_type}/{owner}/{name}"


class Settings(BaseModel):
    """Clients before 2.0 say `private`, later ones `visibility`; what is neither word shares nothing."""

    private: bool | None = None
    visibility: Literal["public", "private"] | None = None


class Tag(BaseModel):
    tag: str
    message: str | None = Field(default=None, max_length=500)


@router.put(_AT + "/settings")
@requires("models.write")
def change(platform: ThePlatform, user: TheUser, repository: TheRepository, body: Settings) -> dict[str, Any]:
    """Shares it with everyone who has a token here (public), or with nobody (private)."""
    service.snapshot(platform, user, repository)
    if body.private is not None or body.visibility is not None:
        _share(platform, user, repository, private=body.private or body.visibility == "private")
    return {}


@router.post(_AT + "/tag/{revision:path}")
@requires("models.write")
def tag(platform: ThePlatform, user: TheUser, repository: TheRepository, revision: str, body: Tag) -> dict[str, Any]:
    """Points an alias at the version that the revision means. 409 when it points somewhere already."""
    _check_aliases(repository)
    aliases.check(body.tag)
    version = service.snapshot(platform, user, repository, revision).version
    if any(ref.name == body.tag for ref in service.refs(platform, user, repository).branches):
        raise ApiError(409, f"{repository} has an alias {body.tag!r} already. Move it: eigenwerk models alias.")
    target = AliasTarget(version=version, reason=body.message)
    aliases.move(platform, user, repository.reference, body.tag, target)
    return {}


@router.delete(_AT + "/tag/{tag}")
@requires("models.write")
def delete_tag(platform: ThePlatform, user: TheUser, repository: TheRepository, tag: str) -> dict[str, Any]:
    """Deletes an alias; the version stays."""
    _check_aliases(repository)
    # PostgreSQL takes no NUL character, and no alias has one.
    if "\0" in tag:
        raise unknown_revision(repository, tag)
    aliases.delete(platform, user, repository.reference, tag)
    return {}


def _share(parts: Parts, user: Principal, repository: Repository, *, private: bool) -> None:
    visibility: Visibility = "private" if private else "everyone"
    if repository.kind == "models":
        model_service.change(parts, user, repository.reference, ModelChange(visibility=visibility))
    else:
        dataset_service.change(parts, user, repository.reference, DatasetChange(visibility=visibility))


def _check_aliases(repository: Repository) -> None:
    """Raises ApiError 409."""
    if repository.kind == "datasets":
        raise ApiError(409, "Versions of data sets have numbers and no other names.", code="no_aliases")
