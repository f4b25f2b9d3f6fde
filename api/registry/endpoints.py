"""/v1/registry/models: models, versions, aliases."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query

from api.authentication import TheUser, guarded_router, requires
from api.parts import ThePlatform
from api.references.names import Shared
from api.references.uses import Deleted, DryRun
from api.registry import deleting, service
from api.registry.schemas import TAGS_MAX, Model, ModelChange, ModelList, ModelVersionDetail, VersionChange
from jobspecs.references import NAME_PATTERN, Reference
from storage.repositories.registry.catalogue import Wish

router = guarded_router("registry")

Name = Annotated[str, Path(pattern=f"^{NAME_PATTERN}$")]
Selector = Annotated[
    str,
    # A number of at most nine digits is a version; a name that is more than digits is an alias.
    Path(
        pattern=r"^([1-9][0-9]{0,8}|[0-9]{0,127}[A-Za-z][A-Za-z0-9._-]{0,127}|[0-9]{1,127}[._-][A-Za-z0-9._-]{0,126})$",
        max_length=128,
        description="a version, an alias, or latest",
    ),
]
VersionNumber = Annotated[int, Path(ge=1, lt=2**31)]
_WISH_CHARS_MAX = 300


def wished(
    q: Annotated[
        str | None, Query(max_length=_WISH_CHARS_MAX, description="words in name, owner, description or tags")
    ] = None,
    task: Annotated[str | None, Query(max_length=_WISH_CHARS_MAX)] = None,
    tag: Annotated[list[Name] | None, Query(max_length=TAGS_MAX, description="all of these")] = None,
    base: Annotated[
        str | None,
        Query(max_length=_WISH_CHARS_MAX, description="what it was made from: name, owner/name@2 or hub:org/name"),
    ] = None,
    license: Annotated[str | None, Query(max_length=_WISH_CHARS_MAX)] = None,
    archived: Annotated[bool, Query(description="also archived versions")] = False,
) -> Wish:
    return Wish((q or "").split(), task, tag or (), base, license, archived)


@router.get("/v1/registry/models")
@requires("models.read")
def list_models(
    platform: ThePlatform, user: TheUser, wish: Annotated[Wish, Depends(wished)], shared: Shared = False
) -> ModelList:
    """The newest version of each of your models, as far as it fits, but for archived ones."""
    return service.list_models(platform, user, wish, shared=shared)


@router.get("/v1/registry/models/{owner}/{name}")
@requires("models.read")
def get_model(platform: ThePlatform, user: TheUser, owner: Name, name: Name) -> Model:
    """A model with its versions and aliases."""
    return service.get_model(platform, user, Reference(owner=owner, name=name))


@router.patch("/v1/registry/models/{owner}/{name}")
@requires("models.write")
def change_model(platform: ThePlatform, user: TheUser, owner: Name, name: Name, change: ModelChange) -> Model:
    """Changes who may read it, and what is said of it. Private again, jobs and deployments that use it keep it."""
    return service.change(platform, user, Reference(owner=owner, name=name), change)


@router.patch("/v1/registry/models/{owner}/{name}/versions/{version}")
@requires("models.write")
def change_version(
    platform: ThePlatform,
    user: TheUser,
    owner: Name,
    name: Name,
    version: VersionNumber,
    change: VersionChange,
) -> ModelVersionDetail:
    """Archives a version, or takes that back: lists, and names without a version, pass it over; its number works on."""
    reference = Reference(owner=owner, name=name, version=version)
    return service.archive_version(platform, user, reference, archived=change.archived)


@router.get("/v1/registry/models/{owner}/{name}/versions/{selector}")
@requires("models.read")
def get_version(
    platform: ThePlatform, user: TheUser, owner: Name, name: Name, selector: Selector
) -> ModelVersionDetail:
    """One version with its manifest: every file with size and sha256."""
    return service.get_version(platform, user, service.selected(owner, name, selector))


@router.delete("/v1/registry/models/{owner}/{name}")
@requires("models.delete")
def delete_model(platform: ThePlatform, user: TheUser, owner: Name, name: Name, dry_run: DryRun = False) -> Deleted:
    """Deletes all versions and aliases; 409, and nothing is deleted, while one is in use."""
    return deleting.delete(platform, user, owner, name, None, dry_run=dry_run)


@router.delete("/v1/registry/models/{owner}/{name}/versions/{version}")
@requires("models.delete")
def delete_version(
    platform: ThePlatform,
    user: TheUser,
    owner: Name,
    name: Name,
    version: VersionNumber,
    dry_run: DryRun = False,
) -> Deleted:
    """Deletes one version, whose number is never given again; 409 while it is in use."""
    return deleting.delete(platform, user, owner, name, version, dry_run=dry_run)
