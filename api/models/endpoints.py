"""/v1/models."""

from __future__ import annotations

from api.authentication import TheUser, guarded_router, requires
from api.errors import not_found
from api.inference.lookup import find_row
from api.models.schemas import DeployedModel, DeployedModelList, beside_model, deployed_model, deployed_models
from api.parts import ThePlatform

router = guarded_router("inference")


@router.get("/v1/models")
@requires("deployments.read")
def list_models(platform: ThePlatform, user: TheUser) -> DeployedModelList:
    """Your deployed models, in OpenAI's shape. The registry's are under /v1/registry/models."""
    with platform.database.unit_of_work() as work:
        rows = work.deployments.list(user.reach("deployments.read"))
    return DeployedModelList(data=[model for row in rows if row.wanted for model in deployed_models(row)])


@router.get("/v1/models/{model:path}")
@requires("deployments.read")
def get_model(platform: ThePlatform, user: TheUser, model: str) -> DeployedModel:
    """One deployed model, `name` or `owner/name`."""
    found = find_row(platform, user, model)
    if found is None:
        raise not_found(f"deployment {model}")
    row, adapter = found
    return deployed_model(row) if adapter is None else beside_model(row, adapter)
