"""/v1/classify."""

from __future__ import annotations

from api.authentication import TheUser, guarded_router, requires
from api.classify import service
from api.classify.schemas import ClassifyRequest, ClassifyResponse
from api.parts import ThePlatform

router = guarded_router("inference")


@router.post("/v1/classify", response_model_exclude_none=True)
@requires("deployments.ask")
async def classify(platform: ThePlatform, user: TheUser, request: ClassifyRequest) -> ClassifyResponse:
    """Sorts texts into the classes of a deployed classifier."""
    return await service.classify(platform, user, request)
