"""Reading the registry, and changing what is said of a model."""

from __future__ import annotations

from api.errors import not_found, not_yours
from api.parts import Parts
from api.registry.schemas import (
    TAGS_MAX,
    Model,
    ModelChange,
    ModelList,
    ModelVersionDetail,
    detail_of,
    version_of,
)
from jobspecs.deploying import Deploying
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import Reference
from jobspecs.rights import Principal, Reach
from storage.database import UnitOfWork
from storage.repositories.registry.catalogue import Wish
from storage.tables import ModelRow, ModelVersionRow

#: Models in one answer.
_MODELS_MAX = 1000


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


def find_model(work: UnitOfWork, user: Principal, reference: Reference) -> ModelRow:
    """The model, whichever of its versions are archived. Raises ApiError 404."""
    row = work.models.find_model(user.reach("models.read"), reference)
    if row is None:
        raise not_found(f"model {reference}")
    return row


def find_model_to_change(work: UnitOfWork, user: Principal, reference: Reference) -> ModelRow:
    """As `find_model`, for who wants to write. Raises ApiError 403 for what the user may only read."""
    row = work.models.find_model(user.reach("models.write"), reference)
    if row is None:
        raise not_yours(f"model {reference}", find_model(work, user, reference).owner.name)
    return row


def list_models(parts: Parts, user: Principal, wish: Wish, *, shared: bool = False) -> ModelList:
    """The user's, as far as they fit; with `shared` also what others share."""
    reach = user.reach("models.read")
    with parts.database.unit_of_work() as work:
        rows = work.catalogue.search(reach if shared else reach.own, wish, limit=_MODELS_MAX + 1)
        data = [version_of(row) for row in rows[:_MODELS_MAX]]
    return ModelList(data=data, has_more=len(rows) > _MODELS_MAX)


def get_model(parts: Parts, user: Principal, reference: Reference) -> Model:
    """With all versions, archived ones too. Raises ApiError 404."""
    with parts.database.unit_of_work() as work:
        row = find_model(work, user, reference)
        versions = work.models.list_versions(user.reach("models.read"), reference)
        if not versions:
            raise not_found(f"model {reference}")
        return Model(
            owner=row.owner.name,
            name=row.name,
            visibility=row.visibility,
            description=row.description,
            tags=row.tags,
            license=row.license,
            first_use=Deploying.model_validate(row.first_use) if row.first_use is not None else None,
            aliases={alias.alias: alias.version for alias in work.aliases.of_model(row.id)},
            versions=[version_of(version) for version in versions],
        )


def get_version(parts: Parts, user: Principal, reference: Reference) -> ModelVersionDetail:
    with parts.database.unit_of_work() as work:
        row = find(work, user.reach("models.read"), reference)
        return detail_of(row, work.evaluations.of_model(user.reach("datasets.read"), row.id))


def change(parts: Parts, user: Principal, reference: Reference, change: ModelChange) -> Model:
    """Raises ApiError 404, 403, and InvalidInput for more tags than a model may have."""
    with parts.database.unit_of_work() as work:
        row = find_model_to_change(work, user, reference)
        work.models.lock(row)
        values = change.model_dump(exclude_unset=True, include={"description", "license", "first_use"})
        if change.visibility is not None:
            values["visibility"] = change.visibility
        tags = sorted({*row.tags, *change.tags_added} - {*change.tags_removed})
        if len(tags) > TAGS_MAX:
            message = f"a model has at most {TAGS_MAX} tags."
            raise InvalidInput([Problem(field="tags_added", message=message, remedy="Remove some.")])
        work.models.change(row, tags=tags, **values)
        if change.archived is not None:
            versions = work.models.list_versions(user.reach("models.write"), reference)
            work.models.archive(versions, archived=change.archived)
    return get_model(parts, user, reference)


def archive_version(parts: Parts, user: Principal, reference: Reference, *, archived: bool) -> ModelVersionDetail:
    """Raises ApiError 404, 403."""
    with parts.database.unit_of_work() as work:
        find_model_to_change(work, user, reference)
        work.models.archive([find(work, user.reach("models.write"), reference)], archived=archived)
    return get_version(parts, user, reference)
