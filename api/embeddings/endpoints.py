"""/v1/embeddings, and Cohere's /v2/embed."""

from __future__ import annotations

from fastapi import Response

from api.authentication import TheUser, requires
from api.embeddings import service
from api.embeddings.schemas import CohereEmbedRequest, CohereEmbedResponse, EmbeddingsRequest, EmbeddingsResponse
from api.inference.openai_route import openai_router
from api.parts import ThePlatform

router = openai_router()


@router.post("/v1/embeddings", response_model=EmbeddingsResponse)
@requires("deployments.ask")
async def embeddings(platform: ThePlatform, user: TheUser, request: EmbeddingsRequest) -> Response:
    """Turns texts into vectors with a deployed embedder. OpenAI's clients can be pointed here."""
    answer = await service.embed(platform, user, request)
    # Written by pydantic itself: a million numbers would take the framework's encoder seconds.
    return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")


@router.post("/v2/embed", response_model=CohereEmbedResponse)
@requires("deployments.ask")
async def embed_as_cohere(platform: ThePlatform, user: TheUser, request: CohereEmbedRequest) -> Response:
    """Turns texts into vectors with a deployed embedder (Cohere's shape)."""
    answer = await service.embed_as_cohere(platform, user, request)
    return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")
