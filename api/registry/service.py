"""Reading the registry and moving aliases."""

from __future__ import annotations

from uuid import UUID

from api.errors import not_found
from api.parts import Parts
from api.registry.schemas import Alias, Model, ModelList, ModelVersionDetail, detail_of, version_of
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import Reference
from jobspecs.rights import Principal, Reach
from storage.database import UnitOfWork
from storage.tables import ModelVersionRow


def selected(owner: str, name: str, selector: str) -> Reference:
    """The reference that a version number, an alias or `latest` in a URL means."""
    if selector.isdecimal():
        return Reference(owner=owner, name=name, version=int(selector))
    return Reference(owner=owner, name=name, alias=selector)


def find(work: UnitOfWork, reach: Reach, reference: Reference) -> ModelVersionRow:
    """Raises ApiError 404: what is out of reach does not exist."""
    row = work.models.find(reach, reference)
    if row is None:
        raise not_found(f"model {reference}")
    return row


def list_models(parts: Parts, user: Principal) -> ModelList:
    with parts.database.unit_of_work() as work:
        newest: dict[UUID, ModelVersionRow] = {}
        for row in work.models.list_versions(user.reach("models.read")):
            newest.setdefault(row.model_id, row)
        return ModelList(data=[version_of(row) for row in newest.values()])


def get_model(parts: Parts, user: Principal, owner: str, name: str) -> Model:
    with parts.database.unit_of_work() as work:
        reach, reference = user.reach("models.read"), Reference(owner=owner, name=name)
        newest = find(work, reach, reference)
        return Model(
            owner=owner,
            name=name,
            aliases={row.alias: row.version for row in work.models.aliases_of(newest.model_id)},
            versions=[version_of(row) for row in work.models.list_versions(reach, reference)],
        )


def get_version(parts: Parts, user: Principal, reference: Reference) -> ModelVersionDetail:
    with parts.database.unit_of_work() as work:
        return detail_of(find(work, user.reach("models.read"), reference))


def set_alias(parts: Parts, user: Principal, owner: str, name: str, alias: str, version: int) -> Alias:
    """Points the alias at a version that exists."""
    if alias == "latest" or alias.isdecimal():
        problem = Problem(
            field="alias", message=f"{alias!r} has a meaning of its own.", remedy="Choose a word such as prod."
        )
        raise InvalidInput([problem])
    with parts.database.unit_of_work() as work:
        row = find(work, user.reach("models.write"), Reference(owner=owner, name=name, version=version))
        work.models.set_alias(row.model_id, alias, version)
    return Alias(alias=alias, version=version)
