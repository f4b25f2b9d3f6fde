"""/v1/decisions."""

from __future__ import annotations

from api.authentication import TheUser, requires
from api.decisions import service
from api.decisions.schemas import DecisionsRequest, DecisionsResponse
from api.inference.openai_route import openai_router
from api.parts import ThePlatform

router = openai_router()


@router.post("/v1/decisions", response_model_exclude_none=True)
@requires("deployments.ask")
async def decide(platform: ThePlatform, user: TheUser, request: DecisionsRequest) -> DecisionsResponse:
    """Answers typed questions about an input with a deployed classifier (SGLang's shape); options are its labels."""
    return await service.decide(platform, user, request)
