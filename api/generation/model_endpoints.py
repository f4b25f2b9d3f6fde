"""/models/{owner}/{name}/...: one language model as text-generation-inference (TGI) would serve it.

`huggingface_hub.InferenceClient(base_url=".../models/owner/name")` works unmodified: chat goes to /v1/chat/completions
below the path, plain generation to the path itself. Refusals have TGI's shape on TGI's routes.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse

from api.authentication import TheUser, requires
from api.errors import ApiError
from api.generation.schemas import GenerateRequest, ModelChatRequest, ModelCompletionRequest
from api.generation.service import passed_on
from api.generation.translating import generated
from api.inference.engine import Deployed, deployed
from api.inference.openai_route import openai_router
from api.models.one_model import OneModelRoute, in_tgis_words
from api.models.tei_documents import STREAMED
from api.parts import ThePlatform
from jobspecs.references import NAME_PATTERN
from jobspecs.tasks import TEXT_GENERATION


class GenerateRoute(OneModelRoute):
    """Says what went wrong in TGI's shape."""

    def written(self, error: ApiError) -> JSONResponse:
        return in_tgis_words(error)


#: What clients say where the path names the model: TGI's, and huggingface_hub's.
_NO_NAMES = (None, "", "tgi", "dummy")

#: OpenAI's shapes, refusals included.
router = openai_router()
#: TGI's.
tgi_router = APIRouter(route_class=GenerateRoute, tags=["inference"])

Name = Annotated[str, Path(pattern=f"^{NAME_PATTERN}$")]


@router.post("/models/{owner}/{name}/v1/chat/completions", responses=STREAMED)
@requires("deployments.ask")
async def chat(
    platform: ThePlatform, user: TheUser, request: Request, owner: Name, name: Name, body: ModelChatRequest
) -> Response:
    """OpenAI's chat completion by this model."""
    said = (body.model_extra or {}).get("user")
    engine = await deployed(platform, user, f"{owner}/{name}", TEXT_GENERATION, session=said)
    return await passed_on(platform, request, engine, "/v1/chat/completions", _of_the_path(engine, body))


@router.post("/models/{owner}/{name}/v1/completions", responses=STREAMED)
@requires("deployments.ask")
async def complete(
    platform: ThePlatform, user: TheUser, request: Request, owner: Name, name: Name, body: ModelCompletionRequest
) -> Response:
    """OpenAI's completion by this model."""
    said = (body.model_extra or {}).get("user")
    engine = await deployed(platform, user, f"{owner}/{name}", TEXT_GENERATION, session=said)
    return await passed_on(platform, request, engine, "/v1/completions", _of_the_path(engine, body))


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


def _of_the_path(engine: Deployed, body: ModelChatRequest | ModelCompletionRequest) -> dict[str, Any]:
    """The request with the path's model. Raises ApiError 404 where it names another: no other one answers instead."""
    own = {engine.name, engine.name.rpartition("/")[2], engine.model, engine.model.rpartition("@")[0]}
    if body.model not in _NO_NAMES and body.model not in own:
        raise ApiError(
            404,
            f"There is no model or adapter {body.model} at this address, which is {engine.name}'s. "
            "Leave model out, or ask the address of the other one.",
            code="model_not_found",
            param="model",
        )
    return {**body.model_dump(exclude_unset=True), "model": engine.name}


def _asked(body: GenerateRequest) -> dict[str, Any]:
    return body.model_dump(exclude_none=True)
