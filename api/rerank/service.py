"""Asks a deployed reranker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from pydantic import TypeAdapter

from api.inference.engine import answering, ask, deployed, tokens_of, truncated_by, version_of, wrong_answer
from api.parts import Parts
from api.rerank.schemas import (
    CohereRequest,
    CohereResponse,
    Document,
    Meta,
    Ranked,
    RankedDocument,
    RerankRequest,
    RerankResponse,
    RerankUsage,
    Scored,
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
    #: Pairs that the model has not read to their end; None for none.
    truncated: int | None


async def rerank(parts: Parts, user: Principal, request: RerankRequest) -> RerankResponse:
    """Raises ApiError: 404 without such a deployment, 422 when it is no reranker, 429 and 503 while it can't."""
    texts = _texts(request.documents)
    wish = {"query": request.query, "texts": texts, "truncate": request.truncate}
    ranking = await _rank(parts, user, request.model, wish)
    return RerankResponse(
        id=_new_id(),
        model=request.model,
        version=ranking.version,
        usage=RerankUsage(prompt_tokens=ranking.tokens, total_tokens=ranking.tokens, truncated_texts=ranking.truncated),
        results=[
            RankedDocument(
                index=item.index,
                relevance_score=item.score,
                document=_document(request.documents[item.index]) if request.return_documents else None,
            )
            for item in ranking.scores[: request.top_n]
        ],
    )


async def rerank_as_cohere(parts: Parts, user: Principal, request: CohereRequest) -> CohereResponse:
    """As `rerank`, without the documents."""
    wish = {
        "query": request.query,
        "texts": _texts(request.documents),
        "truncate": True,
        "max_tokens_per_text": request.max_tokens_per_doc,
    }
    ranking = await _rank(parts, user, request.model, wish)
    cut = ranking.truncated
    return CohereResponse(
        id=_new_id(),
        results=[Ranked(index=item.index, relevance_score=item.score) for item in ranking.scores[: request.top_n]],
        meta=Meta(warnings=[f"documents cut because the model reads fewer tokens: {cut}"] if cut else None),
    )


async def _rank(parts: Parts, user: Principal, model: str, wish: Mapping[str, Any]) -> Ranking:
    engine = await deployed(parts, user, model, TEXT_RANKING)
    response = await ask(parts, engine, "/rerank", wish)
    with answering(engine.name):
        scores = _SCORES.validate_json(response.content)
    texts = len(wish["texts"])
    if sorted(item.index for item in scores) != list(range(texts)):
        raise wrong_answer(engine.name, f"ranked {len(scores)} documents of {texts}")
    return Ranking(scores, version_of(response, engine), tokens_of(response), truncated_by(response))


def _texts(documents: Sequence[str | Document]) -> list[str]:
    return [document if isinstance(document, str) else document.text for document in documents]


def _document(document: str | Document) -> Document:
    return Document(text=document) if isinstance(document, str) else document


def _new_id() -> str:
    return f"rerank-{uuid4().hex}"
