"""Asks a deployed reranker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from pydantic import TypeAdapter

from api.inference.engine import answering, ask, deployed, tokens_of, version_of, wrong_answer
from api.parts import Parts
from api.rerank.schemas import (
    CohereRequest,
    CohereResponse,
    Document,
    Ranked,
    RankedDocument,
    RerankRequest,
    RerankResponse,
    Scored,
    Usage,
)
from jobspecs.rights import Principal
from jobspecs.tasks import TEXT_RANKING

_SCORES = TypeAdapter(list[Scored])


@dataclass(frozen=True)
class Ranking:
    """All documents, best first, and which version ranked them."""

    scores: Sequence[Scored]
    version: int
    tokens: int


async def rerank(parts: Parts, user: Principal, request: RerankRequest) -> RerankResponse:
    """Raises ApiError: 404 without such a deployment, 422 when it is no reranker, 429 and 503 while it can't."""
    texts = _texts(request.documents)
    ranking = await _rank(parts, user, request.model, request.query, texts)
    return RerankResponse(
        id=_new_id(),
        model=request.model,
        version=ranking.version,
        usage=Usage(prompt_tokens=ranking.tokens, total_tokens=ranking.tokens),
        results=[
            RankedDocument(
                index=item.index,
                relevance_score=item.score,
                document=Document(text=texts[item.index]) if request.return_documents else None,
            )
            for item in ranking.scores[: request.top_n]
        ],
    )


async def rerank_as_cohere(parts: Parts, user: Principal, request: CohereRequest) -> CohereResponse:
    """As `rerank`, without the documents."""
    ranking = await _rank(parts, user, request.model, request.query, _texts(request.documents))
    best = ranking.scores[: request.top_n]
    return CohereResponse(id=_new_id(), results=[Ranked(index=item.index, relevance_score=item.score) for item in best])


async def _rank(parts: Parts, user: Principal, model: str, query: str, texts: Sequence[str]) -> Ranking:
    engine = await deployed(parts, user, model, TEXT_RANKING)
    response = await ask(parts, engine, "/rerank", {"query": query, "texts": texts})
    with answering(engine.name):
        scores = _SCORES.validate_json(response.content)
    if sorted(item.index for item in scores) != list(range(len(texts))):
        raise wrong_answer(engine.name, f"ranked {len(scores)} documents of {len(texts)}")
    return Ranking(scores, version_of(response, engine), tokens_of(response))


def _texts(documents: Sequence[str | Document]) -> list[str]:
    return [document if isinstance(document, str) else document.text for document in documents]


def _new_id() -> str:
    return f"rerank-{uuid4().hex}"
