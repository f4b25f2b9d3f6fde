"""/v1/registry/models/…/aliases/…"""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from api.authentication import TheUser, guarded_router, requires
from api.parts import ThePlatform
from api.registry import aliases
from api.registry.alias_schemas import Alias, AliasHistory, AliasTarget, Reason, RollBack
from api.registry.endpoints import Name
from jobspecs.references import Reference

router = guarded_router("registry")

_PATH = "/v1/registry/models/{owner}/{name}/aliases/{alias}"


@router.put(_PATH)
@requires("models.write")
def set_alias(platform: ThePlatform, user: TheUser, owner: Name, name: Name, alias: Name, target: AliasTarget) -> Alias:
    """Points the alias at a version; jobs and deployments that use it already keep what they have."""
    return aliases.move(platform, user, Reference(owner=owner, name=name), alias, target)


@router.get(_PATH)
@requires("models.read")
def get_alias(platform: ThePlatform, user: TheUser, owner: Name, name: Name, alias: Name) -> AliasHistory:
    """What the alias means now, and every move that it made: when, by whom, from where, and why."""
    return aliases.history(platform, user, Reference(owner=owner, name=name), alias)


@router.post(f"{_PATH}/rollback")
@requires("models.write")
def roll_back_alias(
    platform: ThePlatform, user: TheUser, owner: Name, name: Name, alias: Name, request: RollBack | None = None
) -> Alias:
    """Points it where it pointed before; asked again, a step further back. A deleted alias comes back."""
    return aliases.roll_back(platform, user, Reference(owner=owner, name=name), alias, request or RollBack())


@router.delete(_PATH, status_code=204)
@requires("models.write")
def delete_alias(
    platform: ThePlatform,
    user: TheUser,
    owner: Name,
    name: Name,
    alias: Name,
    reason: Annotated[Reason | None, Query(description="why, for its history")] = None,
) -> None:
    """Deletes the alias; its history stays."""
    aliases.delete(platform, user, Reference(owner=owner, name=name), alias, reason)
