"""OpenAI's /v1/chat/completions and /v1/completions for one language model.

Errors here have the engine's shape; the API, which is what clients talk to, gives them OpenAI's. Only an error in the
middle of a stream is written as OpenAI's clients expect it, because nobody can change it on the way.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from itertools import accumulate
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from workers.engines.embedded.dialects.refusals import CONTEXT_LENGTH, refusing
from workers.engines.embedded.dialects.requests import read
from workers.engines.embedded.dialects.streaming import EventStream, event, nobody_there, while_connected
from workers.engines.embedded.generation.answers import Answer, Finish, Step, Written, whole
from workers.engines.embedded.generation.generator import Generator
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.engines.embedded.generation.requests import ChatRequest, CompletionRequest, Unsupported, Wishes
from workers.engines.embedded.generation.sampling import Choice

_DONE = "data: [DONE]\n\n"


class OpenAIRoutes:
    """The two routes. `name`: what the model is called when the request does not say."""

    def __init__(self, name: str, generator: Generator) -> None:
        self._name = name
        self._generator = generator

    def routes(self) -> list[Route]:
        return [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/completions", self._complete, methods=["POST"]),
        ]

    async def _chat(self, request: Request) -> Response:
        with refusing(too_long=CONTEXT_LENGTH):
            body = await read(ChatRequest, request)
            body.check()
            prompt = await self._generator.encode_chat([message.plain() for message in body.messages])
            answers = self._start(body, [prompt])
        shape = _Chat(body.model or self._name, self._generator.model, bool(body.logprobs))
        return await _respond(request, body, answers, shape)

    async def _complete(self, request: Request) -> Response:
        with refusing(too_long=CONTEXT_LENGTH):
            body = await read(CompletionRequest, request)
            body.check()
            prompts = [
                await self._generator.encode(prompt) if isinstance(prompt, str) else self._known(prompt)
                for prompt in body.prompts
            ]
            answers = self._start(body, prompts)
        echoes = [self._generator.model.decode(prompt) if body.echo else "" for prompt in prompts]
        repeated = [echo for echo in echoes for _ in range(body.n or 1)]
        shape = _Completion(body.model or self._name, self._generator.model, body.logprobs is not None, repeated)
        return await _respond(request, body, answers, shape)

    def _known(self, tokens: list[int]) -> list[int]:
        rows = self._generator.model.vocabulary_size
        if any(token >= rows for token in tokens):
            raise Unsupported(f"prompt: this model knows the tokens 0 to {rows - 1}.")
        return tokens

    def _start(self, body: Wishes, prompts: Sequence[Sequence[int]]) -> list[Answer]:
        """All answers of a request, or none of them."""
        defaults = self._generator.model.defaults
        samplings = [
            (prompt, body.sampling(self._generator.room(prompt), defaults, choice))
            for prompt in prompts
            for choice in range(body.n or 1)
        ]
        answers: list[Answer] = []
        try:
            for prompt, sampling in samplings:
                answers.append(self._generator.start(prompt, sampling))
        except Exception:
            for answer in answers:
                answer.cancel()
            raise
        return answers


class _Shape:
    """How one kind of answer is written down."""

    prefix, object_name, chunk_name = "", "", ""

    def __init__(self, name: str, model: LanguageModel, logprobs: bool) -> None:
        self.model, self.logprobs = model, logprobs
        self._head = {"id": f"{self.prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": name}

    def document(self, choices: list[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
        return {"object": self.object_name, **self._head, "choices": choices, "usage": usage}

    def chunk(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {"object": self.chunk_name, **self._head, "choices": choices, **more}

    def opening(self) -> list[dict[str, Any]]:
        """Chunks before the first token."""
        return []

    def choice(self, index: int, written: Written) -> dict[str, Any]:
        raise NotImplementedError

    def delta(self, step: Step) -> dict[str, Any]:
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
            "logprobs": self._logprobs(written.choices),
            "finish_reason": _finish_reason(written.end.reason),
        }

    def delta(self, step: Step) -> dict[str, Any]:
        return {
            "index": 0,
            "delta": {"content": step.text} if step.text else {},
            "logprobs": self._logprobs([step.choice]),
            "finish_reason": _finish_reason(step.end.reason) if step.end else None,
        }

    def _logprobs(self, choices: Sequence[Choice]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        return {
            "content": [
                {
                    **self._token(choice.token, choice.logprob),
                    "top_logprobs": [self._token(token, logprob) for token, logprob in choice.top],
                }
                for choice in choices
            ],
            "refusal": None,
        }

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        text = self.model.token_text(token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


class _Completion(_Shape):
    prefix, object_name, chunk_name = "cmpl", "text_completion", "text_completion"

    def __init__(self, name: str, model: LanguageModel, logprobs: bool, echoes: Sequence[str]) -> None:
        super().__init__(name, model, logprobs)
        self._echoes = echoes

    def opening(self) -> list[dict[str, Any]]:
        echo = {"index": 0, "text": self._echoes[0], "logprobs": None, "finish_reason": None}
        return [self.chunk([echo])] if self._echoes[0] else []

    def choice(self, index: int, written: Written) -> dict[str, Any]:
        return {
            "index": index,
            "text": self._echoes[index] + written.text,
            "logprobs": self._logprobs(written.choices),
            "finish_reason": _finish_reason(written.end.reason),
        }

    def delta(self, step: Step) -> dict[str, Any]:
        return {
            "index": 0,
            "text": step.text,
            "logprobs": self._logprobs([step.choice]),
            "finish_reason": _finish_reason(step.end.reason) if step.end else None,
        }

    def _logprobs(self, choices: Sequence[Choice]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        texts = [self.model.token_text(choice.token) for choice in choices]
        return {
            "tokens": texts,
            "token_logprobs": [choice.logprob for choice in choices],
            "top_logprobs": [
                {self.model.token_text(token): logprob for token, logprob in choice.top} for choice in choices
            ],
            "text_offset": list(accumulate(map(len, texts[:-1]), initial=0)),
        }


async def _respond(request: Request, body: Wishes, answers: list[Answer], shape: _Shape) -> Response:
    if body.stream:
        return EventStream(_events(answers[0], shape, body.includes_usage), answers[0].cancel)
    written = await while_connected(request, _all(answers))
    if written is None:
        return nobody_there()
    choices = [shape.choice(index, item) for index, item in enumerate(written)]
    return JSONResponse(shape.document(choices, _usage(written, body.n or 1)))


async def _all(answers: Sequence[Answer]) -> list[Written]:
    try:
        return list(await asyncio.gather(*(whole(answer) for answer in answers)))
    finally:
        for answer in answers:
            answer.cancel()


async def _events(answer: Answer, shape: _Shape, with_usage: bool) -> AsyncGenerator[str, None]:
    for chunk in shape.opening():
        yield event(chunk)
    texts, choices = "", []
    try:
        async for step in answer:
            choices.append(step.choice)
            texts += step.text
            if step.text or step.end or shape.logprobs:
                yield event(shape.chunk([shape.delta(step)]))
            if step.end and with_usage:
                yield event(shape.chunk([], usage=_usage([Written(texts, tuple(choices), step.end)], 1)))
    except Exception:
        # The inference thread has logged it. The status is sent already: only the stream can tell.
        message = "The model failed on this request; the engine's log says why."
        yield event({"error": {"message": message, "type": "server_error", "param": None, "code": "engine_error"}})
    yield _DONE


def _finish_reason(reason: Finish) -> str:
    return "length" if reason is Finish.length else "stop"


def _usage(written: Sequence[Written], choices: int) -> dict[str, int]:
    """Tokens; a prompt counts once for all its choices, which follow each other in `written`."""
    prompt_tokens = sum(item.end.prompt_tokens for item in written[::choices])
    new_tokens = sum(item.end.new_tokens for item in written)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": new_tokens,
        "total_tokens": prompt_tokens + new_tokens,
    }
