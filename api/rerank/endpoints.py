"""/v1/rerank and /v2/rerank."""

from __future__ import annotations

from api.authentication import TheUser, guarded_router, requires
from api.parts import ThePlatform
from api.rerank import service
from api.rerank.schemas import CohereRequest, CohereResponse, RerankRequest, RerankResponse

router = guarded_router("inference")


@router.post("/v1/rerank", response_model_exclude_none=True)
@requires("deployments.ask")
async def rerank(platform: ThePlatform, user: TheUser, request: RerankRequest) -> RerankResponse:
    """Orders documents by how well they answer a query, with a deployed reranker (Jina's shape)."""
    return await service.rerank(platform, user, request)


@router.post("/v2/rerank", response_model_exclude_none=True)
@requires("deployments.ask")
async def rerank_as_cohere(platform: ThePlatform, user: TheUser, request: CohereRequest) -> CohereResponse:
    """Orders documents by how well they answer a query, with a deployed reranker (Cohere's shape)."""
    return await service.rerank_as_cohere(platform, user, request)
