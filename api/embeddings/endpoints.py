"""/v1/embeddings."""

from __future__ import annotations

from fastapi import Response

from api.authentication import TheUser, guarded_router, requires
from api.embeddings import service
from api.embeddings.schemas import EmbeddingsRequest, EmbeddingsResponse
from api.parts import ThePlatform

router = guarded_router("inference")


@router.post("/v1/embeddings", response_model=EmbeddingsResponse)
@requires("deployments.ask")
async def embeddings(platform: ThePlatform, user: TheUser, request: EmbeddingsRequest) -> Response:
    """Turns texts into vectors with a deployed embedder. OpenAI's clients can be pointed here."""
    answer = await service.embed(platform, user, request)
    # Written by pydantic itself: a million numbers would take the framework's encoder seconds.
    return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")
