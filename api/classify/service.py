"""Asks a deployed classifier."""

from __future__ import annotations

from api.classify.schemas import ClassifyRequest, ClassifyResponse, EngineAnswer
from api.inference.engine import answering, ask, deployed, truncated_by, version_of, wrong_answer
from api.parts import Parts
from jobspecs.rights import Principal
from jobspecs.tasks import TEXT_CLASSIFICATION


async def classify(parts: Parts, user: Principal, request: ClassifyRequest) -> ClassifyResponse:
    """Raises ApiError: 404 without such a deployment, 422 when it is no classifier, 429 and 503 while it can't."""
    engine = await deployed(parts, user, request.model, TEXT_CLASSIFICATION)
    texts = [request.input] if isinstance(request.input, str) else request.input
    response = await ask(parts, engine, "/classify", {"inputs": texts, "truncate": request.truncate})
    with answering(engine.name):
        results = EngineAnswer.model_validate_json(response.content).results
    if len(results) != len(texts):
        raise wrong_answer(engine.name, f"gave {len(results)} results for {len(texts)} texts")
    best = [sorted(labels, key=lambda item: -item.score)[: request.top_k] for labels in results]
    return ClassifyResponse(
        model=request.model,
        version=version_of(response, engine),
        results=best,
        truncated_texts=truncated_by(response),
    )
