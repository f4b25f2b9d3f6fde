"""The registry as a hub sees it: versions as commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.tables import DatasetVersionRow, ModelVersionRow


@dataclass(frozen=True)
class Numbered:
    """A version by what names it, without its manifest."""

    version: int
    #: Of a model its manifest's digest, of a data set its file's sha256.
    digest: str
    created_at: datetime


class HubRepository:
    """Reads versions. The caller has found the model or data set within its reach."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def versions_of_model(self, model_id: UUID) -> Sequence[Numbered]:
        """Newest first."""
        row = ModelVersionRow
        query = select(row.version, row.digest, row.created_at).where(row.model_id == model_id)
        return [Numbered(*found) for found in self._session.execute(query.order_by(row.version.desc()))]

    def versions_of_dataset(self, dataset_id: UUID) -> Sequence[Numbered]:
        """Newest first."""
        row = DatasetVersionRow
        query = select(row.version, row.sha256, row.created_at).where(row.dataset_id == dataset_id)
        return [Numbered(*found) for found in self._session.execute(query.order_by(row.version.desc()))]
