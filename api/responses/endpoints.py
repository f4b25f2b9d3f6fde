"""/v1/responses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from api.authentication import TheUser, requires
from api.errors import ApiError
from api.generation.rewriting import document_of, rewritten
from api.generation.service import passed_on
from api.inference.engine import deployed, wrong_answer
from api.inference.openai_route import openai_router
from api.models.tei_documents import STREAMED
from api.parts import ThePlatform
from api.responses.asking import as_chat, in_own_words
from api.responses.schemas import ResponsesRequest
from api.responses.streaming import events_of
from api.responses.writing import Written, output_of
from jobspecs.engines import CHAT
from jobspecs.tasks import TEXT_GENERATION

router = openai_router()


@router.post("/v1/responses", responses=STREAMED)
@requires("deployments.ask")
async def respond(platform: ThePlatform, user: TheUser, request: Request, body: ResponsesRequest) -> Response:
    """Answers a text or a conversation (OpenAI's shape). With `stream` as named events. Nothing is kept."""
    engine = await deployed(platform, user, body.model, TEXT_GENERATION, session=body.user)
    with _refused_in_own_words():
        answer = await passed_on(platform, request, engine, CHAT, as_chat(body))
    written = Written(body)
    if body.stream:
        return rewritten(answer, lambda chunks: events_of(chunks, written))
    chat = document_of(engine.name, answer)
    try:
        choice = chat["choices"][0]
        document = written.document(
            "completed", output_of(choice), finish=choice.get("finish_reason"), usage=chat.get("usage") or {}
        )
    except (LookupError, TypeError, AttributeError) as error:
        raise wrong_answer(engine.name, "answered without a choice") from error
    return JSONResponse(document, headers={"x-model": answer.headers.get("x-model", engine.model)})


@contextmanager
def _refused_in_own_words() -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        raise in_own_words(error) from None
