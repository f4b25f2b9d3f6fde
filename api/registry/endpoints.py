"""/v1/registry/models: models, versions, aliases."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from api.authentication import TheUser, guarded_router, requires
from api.parts import ThePlatform
from api.references.names import Shared
from api.references.uses import Deleted, DryRun
from api.registry import deleting, service
from api.registry.schemas import Model, ModelChange, ModelList, ModelVersionDetail
from jobspecs.references import NAME_PATTERN, Reference

router = guarded_router("registry")

Name = Annotated[str, Path(pattern=f"^{NAME_PATTERN}$")]
Selector = Annotated[
    str,
    # A number of at most nine digits is a version; what begins with a letter is an alias.
    Path(pattern=r"^([1-9]\d{0,8}|[A-Za-z][A-Za-z0-9._-]{0,127})$", description="a version, an alias, or latest"),
]


@router.get("/v1/registry/models")
@requires("models.read")
def list_models(platform: ThePlatform, user: TheUser, shared: Shared = False) -> ModelList:
    """The newest version of each of your models."""
    return service.list_models(platform, user, shared=shared)


@router.get("/v1/registry/models/{owner}/{name}")
@requires("models.read")
def get_model(platform: ThePlatform, user: TheUser, owner: Name, name: Name) -> Model:
    """A model with its versions and aliases."""
    return service.get_model(platform, user, owner, name)


@router.patch("/v1/registry/models/{owner}/{name}")
@requires("models.write")
def change_model(platform: ThePlatform, user: TheUser, owner: Name, name: Name, change: ModelChange) -> Model:
    """Changes who may read it. Taken back, it stays with jobs and deployments that use it already."""
    return service.change(platform, user, Reference(owner=owner, name=name), change)


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
    version: Annotated[int, Path(ge=1, lt=2**31)],
    dry_run: DryRun = False,
) -> Deleted:
    """Deletes one version, whose number is never given again; 409 while it is in use."""
    return deleting.delete(platform, user, owner, name, version, dry_run=dry_run)
