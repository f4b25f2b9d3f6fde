"""The registry as a hub sees it: versions as commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, collate, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from jobspecs.rights import Reach
from storage.repositories.owners import within
from storage.tables import DatasetRow, DatasetVersionRow, ModelRow, ModelVersionRow, OwnerRow


@dataclass(frozen=True)
class Numbered:
    """A version by what names it, without its manifest."""

    version: int
    #: Of a model its manifest's digest, of a data set its file's sha256.
    digest: str
    created_at: datetime


@dataclass(frozen=True)
class Listing:
    """Which repositories are asked for, of those in a reach."""

    #: A part of `owner/name`, in any case.
    search: str
    #: Empty: anybody.
    author: str
    #: `owner/name` of the last one before.
    after: str
    limit: int


class HubRepository:
    """Reads versions."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def newest_models(self, reach: Reach, wanted: Listing) -> Sequence[ModelVersionRow]:
        """The newest version of each model, of those that are not archived, by `owner/name`."""
        row, other = ModelVersionRow, aliased(ModelVersionRow)
        newest = select(func.max(other.version)).where(other.model_id == ModelRow.id, other.archived_at.is_(None))
        query = select(row).join(row.model).where(within(reach, ModelRow.owner_id, ModelRow.visibility))
        query = query.where(row.version == newest.scalar_subquery())
        return self._session.scalars(_page(query.join(ModelRow.owner), ModelRow.name, wanted)).all()

    def newest_datasets(self, reach: Reach, wanted: Listing) -> Sequence[DatasetVersionRow]:
        """The newest version of each data set, by `owner/name`."""
        row, other = DatasetVersionRow, aliased(DatasetVersionRow)
        newest = select(func.max(other.version)).where(other.dataset_id == DatasetRow.id)
        query = select(row).join(row.dataset).where(within(reach, DatasetRow.owner_id, DatasetRow.visibility))
        query = query.where(row.version == newest.scalar_subquery())
        return self._session.scalars(_page(query.join(DatasetRow.owner), DatasetRow.name, wanted)).all()

    def versions_of_model(self, model_id: UUID) -> Sequence[Numbered]:
        """Newest first. The caller has found the model within its reach."""
        row = ModelVersionRow
        query = select(row.version, row.digest, row.created_at).where(row.model_id == model_id)
        return [Numbered(*found) for found in self._session.execute(query.order_by(row.version.desc()))]

    def versions_of_dataset(self, dataset_id: UUID) -> Sequence[Numbered]:
        """Newest first. The caller has found the data set within its reach."""
        row = DatasetVersionRow
        query = select(row.version, row.sha256, row.created_at).where(row.dataset_id == dataset_id)
        return [Numbered(*found) for found in self._session.execute(query.order_by(row.version.desc()))]


def _page(query: Select[Any], name: InstrumentedAttribute[str], wanted: Listing) -> Select[Any]:
    # As Python compares names, whatever the database's own order is.
    full_name = collate(OwnerRow.name + "/" + name, "C")
    if wanted.author:
        query = query.where(OwnerRow.name == wanted.author)
    if wanted.search:
        query = query.where(func.strpos(func.lower(full_name), wanted.search.lower()) > 0)
    return query.where(full_name > wanted.after).order_by(full_name).limit(wanted.limit)
