"""Aliases: moved, rolled back, deleted, and what they meant before. Nothing that uses a model moves with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from api.errors import ApiError, not_found
from api.parts import Parts
from api.registry.alias_schemas import Alias, AliasHistory, AliasTarget, RollBack, moves_of
from api.registry.service import find, find_model, find_model_to_change
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import Reference, check_alias
from jobspecs.rights import Principal
from storage.database import UnitOfWork
from storage.repositories.registry.aliases import NothingBefore, Unverified
from storage.tables import ModelRow


def check(alias: str) -> None:
    """Raises InvalidInput for what can be no alias, or means something already."""
    try:
        check_alias(alias)
    except ValueError as error:
        raise InvalidInput([Problem(field="alias", message=f"{error}.")]) from error


def move(parts: Parts, user: Principal, model: Reference, alias: str, target: AliasTarget) -> Alias:
    """Points the alias at a version that exists. Raises InvalidInput, ApiError 404, 409 for an unverified one."""
    check(alias)
    version = target.version
    reference = model.model_copy(update={"version": version})
    with parts.database.unit_of_work() as work:
        find_model_to_change(work, user, model)
        row = find(work, user.reach("models.write"), reference)
        if not work.models.hold(row.id):
            raise not_found(f"model {reference}")
        with _refused(model, f"{alias} {version}"):
            before = work.aliases.set(
                row.model_id, alias, version, actor=user.actor, reason=target.reason, force=target.force
            )
        return Alias(alias=alias, version=version, left_behind=_left_behind(work, user, row.model, before, version))


def roll_back(parts: Parts, user: Principal, model: Reference, alias: str, request: RollBack) -> Alias:
    """Points it where it pointed before its last move that was not taken back. Raises ApiError 404, 409."""
    with parts.database.unit_of_work() as work:
        row = find_model_to_change(work, user, model)
        now = work.aliases.points_at(row.id, alias)
        if now is None and not work.aliases.moves(row.id, alias):
            raise not_found(f"alias {alias} of {model}")
        try:
            version = work.aliases.before(row.id, alias)
        except NothingBefore as error:
            raise ApiError(409, f"{error} Nothing was changed.", code="nothing_before") from error
        earlier = work.models.find(user.reach("models.write"), model.model_copy(update={"version": version}))
        if earlier is None or not work.models.hold(earlier.id):
            message = (
                f"{alias} pointed at {model.name}@{version} before, which was deleted. Nothing was changed. "
                f"Name a version: eigenwerk models alias {model.name} {alias} N"
            )
            raise ApiError(409, message, code="version_deleted")
        with _refused(model, f"{alias} --rollback"):
            work.aliases.roll_back(row.id, alias, version, actor=user.actor, reason=request.reason, force=request.force)
        return Alias(alias=alias, version=version, left_behind=_left_behind(work, user, row, now, version))


def delete(parts: Parts, user: Principal, model: Reference, alias: str, reason: str | None = None) -> None:
    """Raises ApiError 404."""
    with parts.database.unit_of_work() as work:
        row = find_model_to_change(work, user, model)
        if not work.aliases.delete(row.id, alias, actor=user.actor, reason=reason):
            raise not_found(f"alias {alias} of {model}")


def history(parts: Parts, user: Principal, model: Reference, alias: str) -> AliasHistory:
    """Raises ApiError 404 for what never was an alias."""
    with parts.database.unit_of_work() as work:
        row = find_model(work, user, model)
        version, moves = work.aliases.points_at(row.id, alias), work.aliases.moves(row.id, alias)
    if version is None and not moves:
        raise not_found(f"alias {alias} of {model}")
    return AliasHistory(alias=alias, version=version, moves=moves_of(moves))


@contextmanager
def _refused(model: Reference, words: str) -> Iterator[None]:
    """What is unverified is refused with 409. `words`: of the command that would force it."""
    try:
        yield
    except Unverified as error:
        message = (
            f"{model.name}: {error} Nothing was changed. Its card says what differs: eigenwerk models card "
            f"{model.name}. To move the alias all the same: eigenwerk models alias {model.name} {words} --force"
        )
        raise ApiError(409, message, code="unverified") from error


def _left_behind(work: UnitOfWork, user: Principal, model: ModelRow, before: int | None, version: int) -> list[str]:
    """The user's deployments that serve what the alias meant before."""
    if before == version:
        return []
    deployed = work.deployments.list(user.reach("deployments.read").own)
    return [
        row.name
        for row in deployed
        if row.wanted
        and row.model_version is not None
        and (row.model_version.model_id, row.model_version.version) == (model.id, before)
    ]
