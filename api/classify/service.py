"""Finds the deployment and asks its engine."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import httpx
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError

from api.authentication import Principal
from api.classify.schemas import ClassifyRequest, ClassifyResponse, EngineAnswer, LabelScore
from api.errors import ApiError, unavailable
from api.parts import Parts

log = logging.getLogger(__name__)

_RETRY_AFTER_S = 2


@dataclass(frozen=True)
class Engine:
    """Where a deployment listens."""

    endpoint: str
    key: str
    #: The version that is wanted; while a new one is being started, an older one answers.
    version: int


@dataclass(frozen=True)
class Answer:
    """What an engine said, and which version of the model it serves."""

    version: int
    results: list[list[LabelScore]]


async def classify(parts: Parts, user: Principal, request: ClassifyRequest) -> ClassifyResponse:
    """Raises ApiError: 404 without such a deployment, 503 while nothing serves it, 429 when too much waits."""
    engine = await run_in_threadpool(_engine, parts, user, request.model)
    texts = [request.input] if isinstance(request.input, str) else request.input
    answer = await _ask(parts, engine, request.model, texts)
    best = [sorted(labels, key=lambda item: -item.score)[: request.top_k] for labels in answer.results]
    return ClassifyResponse(model=request.model, version=answer.version, results=best)


def _engine(parts: Parts, user: Principal, name: str) -> Engine:
    with parts.database.unit_of_work() as work:
        row = work.deployments.find(user.user_id, name)
        if row is None or not row.wanted:
            raise ApiError(
                404,
                f"There is no deployment {name}. Make one: eigenwerk deploy {name}",
                code="not_found",
                param="model",
            )
        # Not its state: while a new version is being started, the old one goes on answering at its endpoint.
        if row.endpoint is None or row.endpoint_key is None:
            why = ": ".join(part for part in (row.state, row.reason, row.message) if part)
            raise unavailable(f"The deployment {name} is not ready ({why}).", "deployment_not_ready", _RETRY_AFTER_S)
        return Engine(row.endpoint, row.endpoint_key, row.model_version.version)


async def _ask(parts: Parts, engine: Engine, name: str, texts: list[str]) -> Answer:
    try:
        response = await parts.inference.post(
            f"{engine.endpoint}/classify",
            json={"inputs": texts},
            headers={"Authorization": f"Bearer {engine.key}"},
        )
        response.raise_for_status()
        results = EngineAnswer.model_validate_json(response.content).results
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        log.warning("the engine of %s answered %d", name, status)
        if status == 413:
            raise ApiError(413, "These are too many or too long texts for one request. Send fewer.") from error
        if status == 429:
            raise ApiError(
                429,
                f"Too many texts wait for the deployment {name}. Try again, or give it more replicas.",
                headers={"Retry-After": str(_RETRY_AFTER_S)},
            ) from error
        raise unavailable(f"The deployment {name} can't answer now.", "engine_error", _RETRY_AFTER_S) from error
    except (httpx.HTTPError, ValidationError) as error:
        log.warning("the engine of %s did not answer as it should: %s", name, error)
        raise unavailable(f"The deployment {name} does not answer.", "engine_unavailable", _RETRY_AFTER_S) from error
    if len(results) != len(texts):
        log.error("the engine of %s gave %d results for %d texts", name, len(results), len(texts))
        raise unavailable(f"The deployment {name} answered wrongly.", "engine_error", _RETRY_AFTER_S)
    return Answer(_version_of(response) or engine.version, results)


def _version_of(response: httpx.Response) -> int | None:
    """The version in the engine's header `x-model: owner/name@version`."""
    _, _, version = response.headers.get("x-model", "").rpartition("@")
    return int(version) if version.isdecimal() else None
