"""/models/{owner}/{name}/…: one deployment, for clients of text-embeddings-inference and of Hugging Face's hub.
What only language models have is in `api.generation.model_endpoints`.

Their base URL is `http://…/models/owner/name`. Requests and answers pass to and from the engine as they are, which
speaks this dialect; so do the errors of these routes: {"error", "error_type"}.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse

from api.authentication import GuardedRoute, TheUser, requires
from api.documented import RefusalAnswer
from api.errors import KNOWN_ERRORS, ApiError, api_error
from api.generation.service import passed_on
from api.generation.translating import generated
from api.inference.engine import Deployed, answering, deployed, relay
from api.models.tei_documents import (
    EMBED,
    LISTS,
    NATIVE,
    NUMBERS,
    OBJECTS,
    PREDICT,
    RERANK,
    SIMILARITY,
    STREAMED,
    TOKENIZE,
    VECTORS,
)
from api.parts import Parts, ThePlatform
from jobspecs.engines import EXTERNAL
from jobspecs.references import NAME_PATTERN
from jobspecs.rights import Principal
from jobspecs.tasks import SENTENCE_SIMILARITY, TEXT_CLASSIFICATION, TEXT_GENERATION, TEXT_RANKING, ServedTask

#: Status -> the kind of error in TEI's words.
_ERROR_TYPES = {
    401: "Unauthorized",
    403: "Unauthorized",
    404: "NotFound",
    424: "Backend",
    429: "Overloaded",
    503: "Unhealthy",
}
#: And in those of text-generation-inference.
_TGI_ERROR_TYPES = {401: "unauthorized", 403: "unauthorized", 404: "not_found", 429: "overloaded", 503: "healthcheck"}
#: Statuses of an engine that are for its client; another one is a matter between the platform and the engine.
_PASSED = frozenset({200, 404, 413, 422, 424, 429})
#: Headers of an engine that are for its client.
_PASSED_HEADERS = ("content-type", "x-model", "x-tokens", "x-truncated")

Owner = Annotated[str, Path(pattern=f"^{NAME_PATTERN}$")]
Name = Annotated[str, Path(pattern=f"^{NAME_PATTERN}$")]


class OneModelRoute(GuardedRoute):
    """Says what went wrong in TEI's shape."""

    refusal_model = RefusalAnswer

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handler(request)
            except KNOWN_ERRORS as error:
                return self.written(api_error(request, error))

        return answered

    def written(self, error: ApiError) -> JSONResponse:
        """{"error", "error_type"}: the message, and its kind in TEI's words."""
        kind = _ERROR_TYPES.get(error.status_code, "Validation" if error.status_code < 500 else "Backend")
        return refusal(error, kind)


router = APIRouter(route_class=OneModelRoute, tags=["inference"], prefix="/models/{owner}/{name}")


def refusal(error: ApiError, kind: str) -> JSONResponse:
    return JSONResponse({"error": error.detail, "error_type": kind}, error.status_code, dict(error.headers or {}))


def in_tgis_words(error: ApiError) -> JSONResponse:
    """As `refusal`, of a language model."""
    kind = _TGI_ERROR_TYPES.get(error.status_code, "validation" if error.status_code < 500 else "generation")
    return refusal(error, kind)


@router.post("", openapi_extra=NATIVE, responses=STREAMED)
@router.post("/", include_in_schema=False)
@requires("deployments.ask")
async def native(platform: ThePlatform, user: TheUser, owner: Owner, name: Name, request: Request) -> Response:
    """What the model is for: /embed or /similarity, /rerank, /predict, or /generate and its stream."""
    engine = await deployed(platform, user, f"{owner}/{name}")
    if engine.task != TEXT_GENERATION.name:
        return await _sent(platform, engine, "/", request)
    try:
        body = await request.json()
        if not isinstance(body, dict):
            raise ApiError(422, "Input validation error: the body must be an object with `inputs`.", param="inputs")
        if engine.kind.speaks_tgi:
            return await passed_on(platform, request, engine, "/", body, own_words=True)
        return await generated(platform, request, engine, body, as_list=True)
    except KNOWN_ERRORS as error:
        return in_tgis_words(api_error(request, error))


@router.post("/embed", openapi_extra=EMBED, responses=VECTORS)
@requires("deployments.ask")
async def embed(platform: ThePlatform, user: TheUser, owner: Owner, name: Name, request: Request) -> Response:
    """{"inputs": str | [str], "normalize"?, "prompt_name"?, "dimensions"?} -> [[float]]"""
    return await _asked(platform, user, f"{owner}/{name}", "/embed", request, SENTENCE_SIMILARITY)


@router.post("/similarity", openapi_extra=SIMILARITY, responses=NUMBERS)
@requires("deployments.ask")
async def similarity(platform: ThePlatform, user: TheUser, owner: Owner, name: Name, request: Request) -> Response:
    """{"inputs": {"source_sentence": str, "sentences": [str]}} -> [float]"""
    return await _asked(platform, user, f"{owner}/{name}", "/similarity", request, SENTENCE_SIMILARITY)


@router.post("/rerank", openapi_extra=RERANK, responses=OBJECTS)
@requires("deployments.ask")
async def rerank(platform: ThePlatform, user: TheUser, owner: Owner, name: Name, request: Request) -> Response:
    """{"query": str, "texts": [str], "raw_scores"?, "return_text"?} -> [{"index", "score", "text"?}], best first"""
    return await _asked(platform, user, f"{owner}/{name}", "/rerank", request, TEXT_RANKING)


@router.post("/predict", openapi_extra=PREDICT, responses=LISTS)
@requires("deployments.ask")
async def predict(platform: ThePlatform, user: TheUser, owner: Owner, name: Name, request: Request) -> Response:
    """{"inputs": str | [[str]]} -> [{"score", "label"}], or a list of them"""
    return await _asked(platform, user, f"{owner}/{name}", "/predict", request, TEXT_CLASSIFICATION)


@router.post("/tokenize", openapi_extra=TOKENIZE, responses=LISTS)
@requires("deployments.ask")
async def tokenize(platform: ThePlatform, user: TheUser, owner: Owner, name: Name, request: Request) -> Response:
    """{"inputs": str | [str], "add_special_tokens"?} -> [[{"id", "text", "special", "start", "stop"}]]

    Language models give one list: [{"id", "text", "start", "stop"}].
    """
    engine = await deployed(platform, user, f"{owner}/{name}")
    if not engine.kind.speaks_tgi:
        raise ApiError(422, f"{engine.kind.title}, which serves this deployment, does not answer this route.")
    return await _sent(platform, engine, "/tokenize", request)


@router.get("/info")
@requires("deployments.ask")
async def info(platform: ThePlatform, user: TheUser, owner: Owner, name: Name) -> Response:
    """The model, its digest, its kind and its limits."""
    engine = await deployed(platform, user, f"{owner}/{name}")
    if not engine.kind.speaks_tgi:
        known = {"model_id": engine.model, "model_sha": None, "model_pipeline_tag": engine.task}
        return JSONResponse({**known, "router": engine.kind.title})
    return await _relayed(platform, engine, "GET", "/info")


@router.get("/health", response_class=Response)
@requires("deployments.ask")
async def health(platform: ThePlatform, user: TheUser, owner: Owner, name: Name) -> Response:
    """200 while the model can answer."""
    engine = await deployed(platform, user, f"{owner}/{name}")
    # One of somebody else's is asked after its health at a path of its own, by the inference worker.
    return Response() if engine.kind is EXTERNAL else await _relayed(platform, engine, "GET", "/health")


async def _asked(
    parts: Parts, user: Principal, model: str, path: str, request: Request, *tasks: ServedTask
) -> Response:
    return await _sent(parts, await deployed(parts, user, model, *tasks), path, request)


async def _sent(parts: Parts, engine: Deployed, path: str, request: Request) -> Response:
    await request.json()  # strict as everywhere: raises ApiError for what the engine need not see
    return await _relayed(parts, engine, "POST", path, await request.body())


async def _relayed(parts: Parts, engine: Deployed, method: str, path: str, content: bytes | None = None) -> Response:
    answer = await relay(parts, engine, method, path, content)
    if answer.status_code not in _PASSED:
        with answering(engine.name):
            answer.raise_for_status()
    headers = {name: answer.headers[name] for name in _PASSED_HEADERS if name in answer.headers}
    return Response(answer.content, answer.status_code, headers)
