"""OpenAI's /v1/chat/completions and /v1/completions for one language model.

Errors here have the engine's shape; the API, which is what clients talk to, gives them OpenAI's. Only an error in the
middle of a stream is written as OpenAI's clients expect it, because nobody can change it on the way.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from workers.engines.embedded.dialects.logprobs import Named, Naming, Placed, Placing, placed_in
from workers.engines.embedded.dialects.refusals import CONTEXT_LENGTH, refusing
from workers.engines.embedded.dialects.requests import read
from workers.engines.embedded.dialects.streaming import EventStream, event, nobody_there, while_connected
from workers.engines.embedded.generation.answers import Answer, End, Finish, PromptAlone, Step, Written, whole
from workers.engines.embedded.generation.forms import Forms
from workers.engines.embedded.generation.generator import Generator
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.engines.embedded.generation.requests import ChatRequest, CompletionRequest, Unsupported, Wishes

_DONE = "data: [DONE]\n\n"


class OpenAIRoutes:
    """The two routes. `name`: what the model is called when the request does not say; `fingerprint`: of its weights."""

    def __init__(self, name: str, generator: Generator, fingerprint: str, forms: Forms) -> None:
        self._name, self._fingerprint, self._forms = name, fingerprint, forms
        self._generator = generator

    def routes(self) -> list[Route]:
        return [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/completions", self._complete, methods=["POST"]),
        ]

    async def _chat(self, request: Request) -> Response:
        with refusing("messages", too_long=CONTEXT_LENGTH):
            body = await read(ChatRequest, request)
            body.check()
            body.check_messages(self._generator.model.template_knows)
            prompt = await self._generator.encode_chat([message.plain() for message in body.messages])
            answers = await self._start(body, [prompt])
        shape = _Chat(body.model or self._name, self._fingerprint, self._generator.model, bool(body.logprobs))
        return await _respond(request, body, answers, shape)

    async def _complete(self, request: Request) -> Response:
        with refusing("prompt", too_long=CONTEXT_LENGTH):
            body = await read(CompletionRequest, request)
            body.check()
            prompts = [
                await self._generator.encode(prompt) if isinstance(prompt, str) else self._known(prompt)
                for prompt in body.prompts
            ]
            answers = await self._start(body, prompts)
        logprobs = body.logprobs is not None
        shape = _Completion(body.model or self._name, self._fingerprint, self._generator.model, logprobs)
        return await _respond(request, body, answers, shape)

    def _known(self, tokens: list[int]) -> list[int]:
        rows = self._generator.model.vocabulary_size
        if any(token >= rows for token in tokens):
            raise Unsupported("prompt", f"this model knows the tokens 0 to {rows - 1}.")
        return tokens

    async def _start(self, body: Wishes, prompts: Sequence[Sequence[int]]) -> list[Answer | PromptAlone]:
        """All answers of a request, or none of them."""
        body.check_tokens(self._generator.model.vocabulary_size)
        form, defaults = body.form(), self._generator.model.defaults
        grammar = await self._forms.prepared(form) if form is not None else None
        samplings = [
            (prompt, replace(body.sampling(self._generator.room(prompt), defaults, choice), grammar=grammar))
            for prompt in prompts
            for choice in range(body.draws)
        ]
        answers: list[Answer] = []
        try:
            for prompt, sampling in samplings:
                answers.append(self._generator.start(prompt, sampling))
        except Exception:
            for answer in answers:
                answer.cancel()
            raise
        return [PromptAlone(answer) for answer in answers] if body.asked_tokens == 0 else list(answers)


class _Shape:
    """How one kind of answer is written down."""

    prefix, object_name, chunk_name = "", "", ""

    def __init__(self, name: str, fingerprint: str, model: LanguageModel, logprobs: bool) -> None:
        self.naming, self.logprobs = Naming(model), logprobs
        self._head = {
            "id": f"{self.prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": name,
            "system_fingerprint": fingerprint,
        }

    def document(self, choices: list[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
        return {"object": self.object_name, **self._head, "choices": choices, "usage": usage}

    def chunk(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {"object": self.chunk_name, **self._head, "choices": choices, **more}

    def opening(self) -> list[dict[str, Any]]:
        """Chunks before the first token."""
        return []

    def choice(self, index: int, written: Written) -> dict[str, Any]:
        raise NotImplementedError

    def delta(self, step: Step, placed: Sequence[Placed]) -> dict[str, Any]:
        """A chunk's choice; `placed`: the tokens of its text."""
        raise NotImplementedError


class _Chat(_Shape):
    prefix, object_name, chunk_name = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def opening(self) -> list[dict[str, Any]]:
        first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        return [self.chunk([first])]

    def choice(self, index: int, written: Written) -> dict[str, Any]:
        return {
            "index": index,
            "message": {"role": "assistant", "content": written.text, "refusal": None},
            "logprobs": self._logprobs(placed_in(written)),
            "finish_reason": _finish_reason(written.end.reason),
        }

    def delta(self, step: Step, placed: Sequence[Placed]) -> dict[str, Any]:
        return {
            "index": 0,
            "delta": {"content": step.text} if step.text else {},
            "logprobs": self._logprobs(placed),
            "finish_reason": _finish_reason(step.end.reason) if step.end else None,
        }

    def _logprobs(self, placed: Sequence[Placed]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        return {
            "content": [
                {**_token(self.naming.chosen(one)), "top_logprobs": [_token(other) for other in self.naming.top(one)]}
                for one in placed
            ],
            "refusal": None,
        }


class _Completion(_Shape):
    prefix, object_name, chunk_name = "cmpl", "text_completion", "text_completion"

    def choice(self, index: int, written: Written) -> dict[str, Any]:
        return {
            "index": index,
            "text": written.text,
            "logprobs": self._logprobs(placed_in(written)),
            "finish_reason": _finish_reason(written.end.reason),
        }

    def delta(self, step: Step, placed: Sequence[Placed]) -> dict[str, Any]:
        return {
            "index": 0,
            "text": step.text,
            "logprobs": self._logprobs(placed),
            "finish_reason": _finish_reason(step.end.reason) if step.end else None,
        }

    def _logprobs(self, placed: Sequence[Placed]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        return {
            "tokens": [one.text for one in placed],
            "token_logprobs": [one.piece.choice.logprob for one in placed],
            "top_logprobs": [self._top(one) for one in placed],
            "text_offset": [one.offset for one in placed],
        }

    def _top(self, placed: Placed) -> dict[str, float | None] | None:
        """Name -> log probability of the best tokens, and of the chosen one where it is none of them."""
        chosen = self.naming.chosen(placed)
        if chosen.logprob is None:
            return None
        return {named.name: named.logprob for named in self.naming.top(placed)} | {chosen.name: chosen.logprob}


def _token(named: Named) -> dict[str, Any]:
    return {"token": named.name, "logprob": named.logprob, "bytes": list(named.own)}


async def _respond(request: Request, body: Wishes, answers: list[Answer | PromptAlone], shape: _Shape) -> Response:
    if body.stream:
        return EventStream(_events(answers[0], shape, body.includes_usage), answers[0].cancel)
    written = await while_connected(request, _all(answers))
    if written is None:
        return nobody_there()
    choices = [shape.choice(index, item) for index, item in enumerate(_best(written, body.draws, body.n or 1))]
    return JSONResponse(shape.document(choices, _usage([item.end for item in written], body.draws)))


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


async def _events(answer: Answer | PromptAlone, shape: _Shape, with_usage: bool) -> AsyncGenerator[str, None]:
    for chunk in shape.opening():
        yield event(chunk)
    placing = Placing()
    try:
        async for step in answer:
            placed = placing.take(step)
            if step.text or step.end or (shape.logprobs and placed):
                yield event(shape.chunk([shape.delta(step, placed)]))
            if step.end and with_usage:
                yield event(shape.chunk([], usage=_usage([step.end], 1)))
    except Exception:
        # The inference thread has logged it. The status is sent already: only the stream can tell.
        message = "The model failed on this request; the engine's log says why."
        yield event({"error": {"message": message, "type": "server_error", "param": None, "code": "engine_error"}})
    yield _DONE


def _finish_reason(reason: Finish) -> str:
    return "length" if reason is Finish.length else "stop"


def _usage(ends: Sequence[End], choices: int) -> dict[str, int]:
    """Tokens; a prompt counts once for all its choices, which follow each other in `ends`."""
    prompt_tokens = sum(end.prompt_tokens for end in ends[::choices])
    new_tokens = sum(end.new_tokens for end in ends)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": new_tokens,
        "total_tokens": prompt_tokens + new_tokens,
    }
