"""/v1/chat/completions and /v1/completions: OpenAI's clients work unmodified."""

from __future__ import annotations

from fastapi import Request, Response

from api.authentication import TheUser, requires
from api.generation.schemas import ChatRequest, CompletionRequest
from api.generation.service import passed_on
from api.inference.engine import deployed
from api.inference.openai_route import openai_router
from api.models.tei_documents import STREAMED
from api.parts import ThePlatform
from jobspecs.tasks import TEXT_GENERATION

router = openai_router()


@router.post("/v1/chat/completions", responses=STREAMED)
@requires("deployments.ask")
async def chat(platform: ThePlatform, user: TheUser, request: Request, body: ChatRequest) -> Response:
    """Answers a conversation. With `stream` as server-sent events, the last of them `[DONE]`."""
    engine = await deployed(platform, user, body.model, TEXT_GENERATION, session=(body.model_extra or {}).get("user"))
    return await passed_on(platform, request, engine, "/v1/chat/completions", body.model_dump(exclude_unset=True))


@router.post("/v1/completions", responses=STREAMED)
@requires("deployments.ask")
async def complete(platform: ThePlatform, user: TheUser, request: Request, body: CompletionRequest) -> Response:
    """Continues a text."""
    engine = await deployed(platform, user, body.model, TEXT_GENERATION, session=(body.model_extra or {}).get("user"))
    return await passed_on(platform, request, engine, "/v1/completions", body.model_dump(exclude_unset=True))
