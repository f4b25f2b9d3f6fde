"""Reading the registry, and changing who may read it."""

from __future__ import annotations

from uuid import UUID

from api.errors import not_found, not_yours
from api.parts import Parts
from api.registry.schemas import Model, ModelChange, ModelList, ModelVersionDetail, detail_of, version_of
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


def find_to_change(work: UnitOfWork, user: Principal, reference: Reference) -> ModelVersionRow:
    """As `find`, for who wants to write. Raises ApiError 403 for what the user may only read."""
    row = work.models.find(user.reach("models.write"), reference)
    if row is None:
        raise not_yours(f"model {reference}", find(work, user.reach("models.read"), reference).model.owner.name)
    return row


def list_models(parts: Parts, user: Principal, *, shared: bool = False) -> ModelList:
    """The user's; with `shared` also what others share."""
    reach = user.reach("models.read")
    with parts.database.unit_of_work() as work:
        newest: dict[UUID, ModelVersionRow] = {}
        for row in work.models.list_versions(reach if shared else reach.own):
            newest.setdefault(row.model_id, row)
        return ModelList(data=[version_of(row) for row in newest.values()])


def get_model(parts: Parts, user: Principal, owner: str, name: str) -> Model:
    with parts.database.unit_of_work() as work:
        reach, reference = user.reach("models.read"), Reference(owner=owner, name=name)
        newest = find(work, reach, reference)
        return Model(
            owner=owner,
            name=name,
            visibility=newest.model.visibility,
            aliases={row.alias: row.version for row in work.aliases.of_model(newest.model_id)},
            versions=[version_of(row) for row in work.models.list_versions(reach, reference)],
        )


def get_version(parts: Parts, user: Principal, reference: Reference) -> ModelVersionDetail:
    with parts.database.unit_of_work() as work:
        return detail_of(find(work, user.reach("models.read"), reference))


def change(parts: Parts, user: Principal, reference: Reference, change: ModelChange) -> Model:
    """Raises ApiError 404, 403."""
    with parts.database.unit_of_work() as work:
        row = find_to_change(work, user, reference).model
        if change.visibility is not None:
            work.models.change(row, visibility=change.visibility)
    return get_model(parts, user, row.owner.name, row.name)
