"""The shapes of OpenAI's list of models."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from storage.tables import DeploymentRow, ModelVersionRow


class DeployedModel(BaseModel):
    object: Literal["model"] = "model"
    #: The deployment's name: what requests write as `model`.
    id: str
    #: Seconds since 1970.
    created: int
    owned_by: str
    #: `owner/name@version` of the registry, or what an engine of somebody else's calls its model.
    root: str
    task: str | None
    #: As in /v1/deployments.
    state: str


class DeployedModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[DeployedModel]


def deployed_models(row: DeploymentRow) -> list[DeployedModel]:
    """What the deployment serves: its model, and the adapters beside it."""
    own = deployed_model(row)
    return [own, *(beside_model(row, adapter) for adapter in row.adapters)]


def beside_model(row: DeploymentRow, adapter: ModelVersionRow) -> DeployedModel:
    """An adapter that the deployment serves."""
    shown = {"id": adapter.full_name.partition("@")[0], "owned_by": adapter.model.owner.name, "root": adapter.full_name}
    return deployed_model(row).model_copy(update=shown)


def deployed_model(row: DeploymentRow) -> DeployedModel:
    return DeployedModel(
        id=row.name,
        created=int(row.created_at.timestamp()),
        owned_by=row.owner.name,
        root=row.served,
        task=row.served_task,
        state=row.state,
    )
