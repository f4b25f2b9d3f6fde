"""Finding models: by words, task, tag, base and licence; and by what they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Text, and_, cast, exists, func, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from jobspecs.rights import Reach
from storage.repositories.owners import within
from storage.tables import DeploymentAdapterRow, DeploymentRow, ModelRow, ModelVersionRow, OwnerRow


@dataclass(frozen=True)
class Wish:
    """What is looked for; each narrows it further, and None or nothing means any.

    `base`: as a spec would name it, with or without owner and version; of the newest version's lineage, at any place.
    """

    words: Sequence[str] = ()
    task: str | None = None
    tags: Sequence[str] = ()
    base: str | None = None
    license: str | None = None
    archived: bool = False


class CatalogueRepository:
    """Reads models and versions within a reach."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def search(self, reach: Reach, wish: Wish, *, limit: int) -> Sequence[ModelVersionRow]:
        """The newest version, of those that are not archived, of each model that fits; at most `limit`, by name."""
        # What is asked of a version is asked of the newest alone.
        each = select(ModelVersionRow.model_id, func.max(ModelVersionRow.version).label("version"))
        each = each.join(ModelVersionRow.model).where(within(reach, ModelRow.owner_id, ModelRow.visibility))
        if not wish.archived:
            each = each.where(ModelVersionRow.archived_at.is_(None))
        newest = each.group_by(ModelVersionRow.model_id).subquery()
        is_newest = and_(ModelVersionRow.model_id == newest.c.model_id, ModelVersionRow.version == newest.c.version)
        query = select(ModelVersionRow).join(newest, is_newest).join(ModelVersionRow.model).join(ModelRow.owner)
        query = query.where(*_conditions(wish))
        query = query.order_by(within(Reach.of(reach.home), ModelRow.owner_id).desc(), OwnerRow.name, ModelRow.name)
        return self._session.scalars(query.limit(limit)).all()

    def children(self, reach: Reach, digest: str, *, limit: int) -> Sequence[ModelVersionRow]:
        """Versions that were made from one with this digest, or need it as their base; the oldest first."""
        query = select(ModelVersionRow).join(ModelVersionRow.model)
        query = query.where(
            within(reach, ModelRow.owner_id, ModelRow.visibility),
            ModelVersionRow.lineage.contains({"models": [{"digest": digest}]}),
        )
        return self._session.scalars(query.order_by(ModelVersionRow.created_at).limit(limit)).all()

    def deployments(self, reach: Reach, version: ModelVersionRow) -> Sequence[DeploymentRow]:
        """Those in the reach that serve the version, or have it as an adapter beside their model; by name."""
        first = DeploymentRow.wanted, DeploymentRow.share == 0
        query = select(DeploymentRow).where(within(reach, DeploymentRow.owner_id), *first)
        beside = select(DeploymentAdapterRow.deployment_id).where(DeploymentAdapterRow.model_version_id == version.id)
        query = query.where(or_(DeploymentRow.model_version_id == version.id, DeploymentRow.id.in_(beside)))
        return self._session.scalars(query.order_by(DeploymentRow.name)).all()


def _conditions(wish: Wish) -> list[ColumnElement[bool]]:
    tags = func.array_to_string(ModelRow.tags, " ")
    text = func.concat_ws(" ", OwnerRow.name, ModelRow.name, ModelRow.description, tags)
    found: list[ColumnElement[bool]] = [text.icontains(word, autoescape=True) for word in wish.words]
    if wish.task is not None:
        found.append(ModelVersionRow.manifest["task"].astext == wish.task)
    if wish.tags:
        found.append(ModelRow.tags.contains(list(wish.tags)))
    if wish.license is not None:
        known = func.coalesce(ModelRow.license, ModelVersionRow.license)
        found.append(func.lower(known) == wish.license.lower())
    if wish.base is not None:
        found.append(_made_from(wish.base))
    return found


def _made_from(base: str) -> ColumnElement[bool]:
    """Whether the lineage names `base`: `name`, `owner/name` or `hub:org/name`, each with or without `@version`."""
    parent = func.jsonb_array_elements(ModelVersionRow.lineage["models"]).table_valued("value")
    reference = cast(cast(parent.c.value, JSONB)["reference"].astext, Text)
    named = [reference == base, reference.startswith(f"{base}@", autoescape=True)]
    if "/" not in base:
        named += [reference.endswith(f"/{base}", autoescape=True), reference.contains(f"/{base}@", autoescape=True)]
    return exists(select(1).select_from(parent).where(or_(*named)))
