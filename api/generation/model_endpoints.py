"""/models/{owner}/{name}/...: one language model as text-generation-inference (TGI) would serve it.

`huggingface_hub.InferenceClient(base_url=".../models/owner/name")` works unmodified: chat goes to /v1/chat/completions
below the path, plain generation to the path itself. Refusals have TGI's shape on TGI's routes.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse

from api.authentication import TheUser, guarded_router, requires
from api.errors import ApiError
from api.generation.schemas import GenerateRequest, ModelChatRequest, ModelCompletionRequest
from api.generation.service import passed_on
from api.generation.translating import generated
from api.inference.engine import deployed
from api.models.one_model import OneModelRoute, refusal
from api.models.tei_documents import STREAMED
from api.parts import ThePlatform
from jobspecs.references import NAME_PATTERN
from jobspecs.tasks import TEXT_GENERATION

#: Status -> the kind of error in TGI's words.
_ERROR_TYPES = {401: "unauthorized", 403: "unauthorized", 404: "not_found", 429: "overloaded", 503: "healthcheck"}


class GenerateRoute(OneModelRoute):
    """Says what went wrong in TGI's shape."""

    def written(self, error: ApiError) -> JSONResponse:
        kind = _ERROR_TYPES.get(error.status_code, "validation" if error.status_code < 500 else "generation")
        return refusal(error, kind)


#: OpenAI's shapes, refusals included.
router = guarded_router("inference")
#: TGI's.
tgi_router = APIRouter(route_class=GenerateRoute, tags=["inference"])

Name = Annotated[str, Path(pattern=f"^{NAME_PATTERN}$")]


@router.post("/models/{owner}/{name}/v1/chat/completions", responses=STREAMED)
@requires("deployments.ask")
async def chat(
    platform: ThePlatform, user: TheUser, request: Request, owner: Name, name: Name, body: ModelChatRequest
) -> Response:
    """OpenAI's chat completion by this model."""
    engine = await deployed(platform, user, f"{owner}/{name}", TEXT_GENERATION)
    wanted = {**body.model_dump(exclude_unset=True), "model": engine.name}
    return await passed_on(platform, request, engine, "/v1/chat/completions", wanted)


@router.post("/models/{owner}/{name}/v1/completions", responses=STREAMED)
@requires("deployments.ask")
async def complete(
    platform: ThePlatform, user: TheUser, request: Request, owner: Name, name: Name, body: ModelCompletionRequest
) -> Response:
    """OpenAI's completion by this model."""
    engine = await deployed(platform, user, f"{owner}/{name}", TEXT_GENERATION)
    wanted = {**body.model_dump(exclude_unset=True), "model": engine.name}
    return await passed_on(platform, request, engine, "/v1/completions", wanted)


@tgi_router.post("/models/{owner}/{name}/generate")
@requires("deployments.ask")
async def generate(
    platform: ThePlatform, user: TheUser, request: Request, owner: Name, name: Name, body: GenerateRequest
) -> Response:
    """TGI's /generate: the whole text at once."""
    engine = await deployed(platform, user, f"{owner}/{name}", TEXT_GENERATION)
    if not engine.kind.speaks_tgi:
        return await generated(platform, request, engine, _asked(body))
    return await passed_on(platform, request, engine, "/generate", _asked(body), own_words=True)


@tgi_router.post("/models/{owner}/{name}/generate_stream", responses=STREAMED)
@requires("deployments.ask")
async def generate_stream(
    platform: ThePlatform, user: TheUser, request: Request, owner: Name, name: Name, body: GenerateRequest
) -> Response:
    """TGI's /generate_stream: an event per token."""
    engine = await deployed(platform, user, f"{owner}/{name}", TEXT_GENERATION)
    if not engine.kind.speaks_tgi:
        return await generated(platform, request, engine, {**_asked(body), "stream": True})
    return await passed_on(platform, request, engine, "/generate_stream", _asked(body), own_words=True)


def _asked(body: GenerateRequest) -> dict[str, Any]:
    return body.model_dump(exclude_none=True)
