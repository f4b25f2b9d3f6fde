"""OpenAI's /v1/chat/completions and /v1/completions for one language model.

Errors here have the engine's shape; the API, which is what clients talk to, gives them OpenAI's. Only an error in the
middle of a stream is written as OpenAI's clients expect it, because nobody can change it on the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from corpus.conversations.problems import BadRow
from workers.engines.embedded.dialects.logprobs import Placing
from workers.engines.embedded.dialects.openai_shapes import ChatShape, CompletionShape, Shape
from workers.engines.embedded.dialects.refusals import CONTEXT_LENGTH, refusing
from workers.engines.embedded.dialects.requests import read
from workers.engines.embedded.dialects.streaming import EventStream, event, nobody_there, while_connected
from workers.engines.embedded.generation.answers import Answer, End, PromptAlone, Written, whole
from workers.engines.embedded.generation.forms import Form
from workers.engines.embedded.generation.requests import ChatRequest, CompletionRequest, Unsupported, Wishes
from workers.engines.embedded.generation.tool_calls import CallReader, Notation, NoTools, earlier_calls
from workers.engines.embedded.generation.voices import Voice, Voices

_DONE = "data: [DONE]\n\n"


class OpenAIRoutes:
    """The two routes."""

    def __init__(self, voices: Voices) -> None:
        self._voices = voices

    def routes(self) -> list[Route]:
        return [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/completions", self._complete, methods=["POST"]),
        ]

    async def _chat(self, request: Request) -> Response:
        with refusing("messages", too_long=CONTEXT_LENGTH):
            body = await read(ChatRequest, request)
            body.check()
            voice = self._voices.of(body.adapter_id, body.model)
            model = voice.model
            body.check_messages(model.template_knows, model.template_knows_role)
            messages = [message.plain() for message in body.messages]
            notation = await _notation(voice, body, messages)
            prompt = await voice.prompts.encode_chat(_as_the_template_reads(messages, notation), body.offered)
            forced = notation.form(body.forced) if notation is not None and body.forced else None
            answers = await _start(voice, body, [prompt], forced)
        names = frozenset(tool["function"]["name"] for tool in body.offered)
        reader = CallReader(notation, names) if notation is not None and names else None
        shape = ChatShape(body.model or voice.name, voice.fingerprint, model, bool(body.logprobs), reader)
        return await _respond(request, body, answers, shape, {"x-model": voice.name})

    async def _complete(self, request: Request) -> Response:
        with refusing("prompt", too_long=CONTEXT_LENGTH):
            body = await read(CompletionRequest, request)
            body.check()
            voice = self._voices.of(body.adapter_id, body.model)
            prompts = [
                await voice.prompts.encode(prompt) if isinstance(prompt, str) else _known(voice, prompt)
                for prompt in body.prompts
            ]
            answers = await _start(voice, body, prompts)
        logprobs = body.logprobs is not None
        shape = CompletionShape(body.model or voice.name, voice.fingerprint, voice.model, logprobs)
        return await _respond(request, body, answers, shape, {"x-model": voice.name})


async def _notation(voice: Voice, body: ChatRequest, messages: Sequence[Mapping[str, Any]]) -> Notation | None:
    """How the model's template writes calls, where the request has to do with some. Raises Unsupported."""
    field = "tools" if body.offered else "messages"
    if field == "messages" and not any(message.get("tool_calls") for message in messages):
        return None
    try:
        return await asyncio.to_thread(voice.tools.notation)
    except NoTools as error:
        raise Unsupported(field, str(error)) from error


def _known(voice: Voice, tokens: list[int]) -> list[int]:
    rows = voice.model.vocabulary_size
    if any(token >= rows for token in tokens):
        raise Unsupported("prompt", f"this model knows the tokens 0 to {rows - 1}.")
    return tokens


async def _start(
    voice: Voice, body: Wishes, prompts: Sequence[Sequence[int]], forced: Form | None = None
) -> list[Answer | PromptAlone]:
    """All answers of a request, or none of them."""
    body.check_tokens(voice.model.vocabulary_size)
    form, defaults = forced or body.form(), voice.model.defaults
    grammar = await voice.forms.prepared(form) if form is not None else None
    samplings = [
        (prompt, replace(body.sampling(voice.room(prompt), defaults, choice), grammar=grammar))
        for prompt in prompts
        for choice in range(body.draws)
    ]
    answers: list[Answer] = []
    try:
        for prompt, sampling in samplings:
            answers.append(voice.start(prompt, sampling))
    except Exception:
        for answer in answers:
            answer.cancel()
        raise
    return [PromptAlone(answer) for answer in answers] if body.asked_tokens == 0 else list(answers)


def _as_the_template_reads(messages: Sequence[dict[str, Any]], notation: Notation | None) -> list[dict[str, Any]]:
    """The messages with their calls as the template wants them. Raises Unsupported."""
    if notation is None:
        return list(messages)
    try:
        return [earlier_calls(message, place, notation) for place, message in enumerate(messages)]
    except BadRow as error:
        raise Unsupported(error.field, error.message) from error


async def _respond(
    request: Request, body: Wishes, answers: list[Answer | PromptAlone], shape: Shape, headers: dict[str, str]
) -> Response:
    if body.stream:
        return EventStream(_events(answers[0], shape, body.includes_usage), answers[0].cancel, headers)
    written = await while_connected(request, _all(answers))
    if written is None:
        return nobody_there()
    choices = [shape.choice(index, item) for index, item in enumerate(_best(written, body.draws, body.n or 1))]
    return JSONResponse(shape.document(choices, _usage([item.end for item in written], body.draws)), headers=headers)


def _best(written: Sequence[Written], draws: int, kept: int) -> list[Written]:
    """Of each prompt's answers those with the highest log probability per token, best first, or all as drawn."""
    if draws == kept:
        return list(written)
    prompts = [written[start : start + draws] for start in range(0, len(written), draws)]
    return [one for drawn in prompts for one in sorted(drawn, key=lambda one: -one.mean_logprob)[:kept]]


async def _all(answers: Sequence[Answer | PromptAlone]) -> list[Written]:
    try:
        return list(await asyncio.gather(*(whole(answer) for answer in answers)))
    finally:
        for answer in answers:
            answer.cancel()


async def _events(answer: Answer | PromptAlone, shape: Shape, with_usage: bool) -> AsyncGenerator[str, None]:
    for chunk in shape.opening():
        yield event(chunk)
    placing = Placing()
    try:
        async for step in answer:
            placed = placing.take(step)
            if step.text or step.end or (shape.logprobs and placed):
                for choice in shape.deltas(step, placed):
                    yield event(shape.chunk([choice]))
            if step.end and with_usage:
                yield event(shape.chunk([], usage=_usage([step.end], 1)))
    except Exception:
        # The inference thread has logged it. The status is sent already: only the stream can tell.
        message = "The model failed on this request; the engine's log says why."
        yield event({"error": {"message": message, "type": "server_error", "param": None, "code": "engine_error"}})
    yield _DONE


def _usage(ends: Sequence[End], choices: int) -> dict[str, int]:
    """Tokens; a prompt counts once for all its choices, which follow each other in `ends`."""
    prompt_tokens = sum(end.prompt_tokens for end in ends[::choices])
    new_tokens = sum(end.new_tokens for end in ends)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": new_tokens,
        "total_tokens": prompt_tokens + new_tokens,
    }
