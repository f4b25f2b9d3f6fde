"""Adapters that deployments serve beside their models."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from uuid import UUID

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from jobspecs.rights import Reach
from storage.repositories.owners import named, within
from storage.tables import DeploymentAdapterRow, DeploymentRow, ModelRow, ModelVersionRow


class ServedAdapterRepository:
    """The deployment_adapters table."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def serve(self, deployment_id: UUID, adapter_ids: Collection[UUID]) -> None:
        """From now on these versions, and no others, are wanted beside the model."""
        self._session.execute(delete(DeploymentAdapterRow).where(DeploymentAdapterRow.deployment_id == deployment_id))
        rows = [{"deployment_id": deployment_id, "model_version_id": adapter_id} for adapter_id in adapter_ids]
        if rows:
            self._session.execute(insert(DeploymentAdapterRow), rows)

    def find(
        self, reach: Reach, name: str, *, owner: str | None = None, version: int | None = None
    ) -> tuple[Sequence[DeploymentRow], ModelVersionRow | None]:
        """The wanted shares of a deployment in the reach that serves the adapter `owner/name@version`, and the adapter.

        Without a version the newest that is served. Of several deployments one that answers; candidates come last.
        """
        # Who may ask the deployment may ask what it serves, whoever that belongs to.
        whose = named(replace(reach, everybody=True), ModelRow.owner_id, owner)
        query = select(DeploymentRow, ModelVersionRow)
        query = query.join(DeploymentAdapterRow, DeploymentAdapterRow.deployment_id == DeploymentRow.id)
        query = query.join(ModelVersionRow, ModelVersionRow.id == DeploymentAdapterRow.model_version_id)
        query = query.join(ModelRow, ModelRow.id == ModelVersionRow.model_id)
        query = query.where(within(reach, DeploymentRow.owner_id), DeploymentRow.wanted, ModelRow.name == name, whose)
        if version is not None:
            query = query.where(ModelVersionRow.version == version)
        answers, is_candidate = DeploymentRow.endpoint.is_not(None), DeploymentRow.traffic_percent.is_not(None)
        order = ModelVersionRow.version.desc(), is_candidate, answers.desc(), DeploymentRow.created_at
        first = self._session.execute(query.order_by(*order).limit(1)).first()
        if first is None:
            return [], None
        row, adapter = first
        shares = select(DeploymentRow).where(within(Reach.of(row.owner_id), DeploymentRow.owner_id))
        shares = shares.where(DeploymentRow.name == row.name, DeploymentRow.wanted).order_by(DeploymentRow.share)
        return self._session.scalars(shares).all(), adapter
