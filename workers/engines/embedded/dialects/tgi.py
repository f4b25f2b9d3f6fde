"""text-generation-inference's (TGI 3.3) /generate, /generate_stream, / and /tokenize for one language model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from workers.engines.embedded.dialects.logprobs import Named, Naming, Placed, placed_in
from workers.engines.embedded.dialects.refusals import refusing
from workers.engines.embedded.dialects.requests import read
from workers.engines.embedded.dialects.streaming import EventStream, event, nobody_there, while_connected
from workers.engines.embedded.generation.answers import Answer, End, Finish, Piece, Step, Written, whole
from workers.engines.embedded.generation.requests import Unsupported
from workers.engines.embedded.generation.tgi_requests import GenerateRequest, TokenizeRequest
from workers.engines.embedded.generation.voices import Voice, Voices

_PREFIX = "Input validation error: "
_FINISH_REASONS = {
    Finish.length: "length",
    Finish.end_token: "eos_token",
    Finish.stop_string: "stop_sequence",
}


@dataclass(frozen=True)
class _Sequence:
    """One finished answer, and the tokens of the prompt where they were asked for."""

    written: Written
    prefill: tuple[Piece, ...] = ()

    @classmethod
    def of(cls, drawn: Written) -> _Sequence:
        prefill = drawn.pieces[: len(drawn.pieces) - drawn.end.new_tokens]
        text = drawn.text[sum(len(piece.text) for piece in prefill) :]
        return cls(Written(text, drawn.pieces[len(prefill) :], drawn.end), prefill)


@dataclass(frozen=True)
class _Started:
    """A request whose answers grow: `best_of` of them."""

    body: GenerateRequest
    voice: Voice
    answers: Sequence[Answer]
    #: Whether `truncate` took tokens off the prompt.
    cut: bool

    @property
    def headers(self) -> dict[str, str]:
        return {"x-model": self.voice.name, **({"x-truncated": "1"} if self.cut else {})}

    def details(self, found: _Sequence) -> dict[str, Any]:
        placed = placed_in(found.written, with_stop=True)
        prefill = [self._token(Placed(piece, piece.text, 0)) for piece in found.prefill]
        return {
            **_account(self.body, found.written.end),
            "prefill": [{name: token[name] for name in ("id", "text", "logprob")} for token in prefill],
            "tokens": [self._token(one) for one in placed],
            **({"top_tokens": [self._top(one) for one in placed]} if self.body.parameters.top_n_tokens else {}),
        }

    def stream_document(self, step: Step, text: str, number: int) -> dict[str, Any]:
        """`text`: all of it so far. Clients put `token.text` together: it is what can be shown, not the bare token."""
        placed = Placed(step.pieces[-1], step.pieces[-1].text, 0)
        token = self._token(placed)
        shown = step.text + (step.end.stop or "" if step.end else "")
        document: dict[str, Any] = {
            "index": number,
            "token": {**token, "text": shown, "special": False} if shown or not token["special"] else token,
            "generated_text": _text(self.body, text, step.end) if step.end else None,
            "details": None,
        }
        if step.end and self.body.parameters.details:
            document["details"] = {**_account(self.body, step.end), "input_length": step.end.prompt_tokens}
        if self.body.parameters.top_n_tokens:
            document["top_tokens"] = self._top(placed)
        return document

    def _token(self, placed: Placed) -> dict[str, Any]:
        return self._written(Naming(self.voice.model).chosen(placed))

    def _top(self, placed: Placed) -> list[dict[str, Any]]:
        return [self._written(named) for named in Naming(self.voice.model).top(placed)]

    def _written(self, named: Named) -> dict[str, Any]:
        """Special tokens are spelled out; the texts of the others make up the text."""
        special = self.voice.model.is_special(named.token)
        text = self.voice.model.token_text(named.token) if special else named.name
        return {"id": named.token, "text": text, "logprob": named.logprob, "special": special}


class TgiRoutes:
    """The routes of one model and its adapters."""

    def __init__(self, voices: Voices) -> None:
        self._voices = voices

    def routes(self) -> list[Route]:
        return [
            Route("/generate", self._generate, methods=["POST"]),
            Route("/generate_stream", self._generate_stream, methods=["POST"]),
            Route("/", self._either, methods=["POST"]),
            Route("/tokenize", self._tokenize, methods=["POST"]),
        ]

    async def _generate(self, request: Request) -> Response:
        return await self._at_once(request, await self._started(request, at_once=True), as_list=False)

    async def _generate_stream(self, request: Request) -> Response:
        return self._streamed(await self._started(request, stream=True))

    async def _either(self, request: Request) -> Response:
        started = await self._started(request)
        return self._streamed(started) if started.body.stream else await self._at_once(request, started, as_list=True)

    async def _started(self, request: Request, *, at_once: bool = False, stream: bool = False) -> _Started:
        with refusing("inputs", prefix=_PREFIX):
            body = await read(GenerateRequest, request)
            if at_once and body.stream:
                raise Unsupported("stream", "this route answers at once. Ask /generate_stream instead.")
            parameters = body.parameters
            parameters.check(stream or body.stream)
            voice = self._voices.of(parameters.adapter_id, field="parameters.adapter_id")
            whole_prompt = await voice.prompts.encode(body.inputs)
            prompt = whole_prompt[-parameters.truncate :] if parameters.truncate is not None else whole_prompt
            form = parameters.form()
            grammar = await voice.forms.prepared(form) if form is not None else None
            sampling = replace(parameters.sampling(voice.room(prompt)), grammar=grammar)
            answers: list[Answer] = []
            try:
                for _ in range(parameters.best_of or 1):
                    answers.append(voice.start(prompt, sampling))
            except Exception:
                _cancel(answers)
                raise
            return _Started(body, voice, answers, cut=len(prompt) < len(whole_prompt))

    async def _at_once(self, request: Request, started: _Started, *, as_list: bool) -> Response:
        drawn = await while_connected(request, _all(started.answers))
        if drawn is None:
            return nobody_there()
        body = started.body
        best, *others = sorted((_Sequence.of(one) for one in drawn), key=lambda one: -one.written.mean_logprob)
        document: dict[str, Any] = {"generated_text": _text(body, best.written.text, best.written.end)}
        if body.parameters.details or body.parameters.decoder_input_details:
            document["details"] = started.details(best)
            if others:
                document["details"]["best_of_sequences"] = [
                    {"generated_text": _text(body, one.written.text, one.written.end), **started.details(one)}
                    for one in others
                ]
        headers = {
            "x-prompt-tokens": str(best.written.end.prompt_tokens),
            "x-generated-tokens": str(sum(one.end.new_tokens for one in drawn)),
            **started.headers,
        }
        return JSONResponse([document] if as_list else document, headers=headers)

    def _streamed(self, started: _Started) -> Response:
        [answer] = started.answers
        return EventStream(self._events(started, answer), answer.cancel, started.headers)

    async def _events(self, started: _Started, answer: Answer) -> AsyncGenerator[str, None]:
        text, count = "", 0
        try:
            async for step in answer:
                text, count = text + step.text, count + 1
                yield event(started.stream_document(step, text, count))
        except Exception:
            # The inference thread has logged it. The status is sent already: only the stream can tell.
            message = "Request failed during generation: the engine's log says why."
            yield event({"error": message, "error_type": "generation"})

    async def _tokenize(self, request: Request) -> Response:
        with refusing("inputs", prefix=_PREFIX):
            body = await read(TokenizeRequest, request)
        spans = await self._voices.base.prompts.encode_spans(body.inputs)
        return JSONResponse(
            [
                {"id": token, "text": body.inputs[start:stop], "start": start, "stop": stop}
                for token, start, stop in spans
            ]
        )


async def _all(answers: Sequence[Answer]) -> list[Written]:
    try:
        return list(await asyncio.gather(*(whole(answer) for answer in answers)))
    finally:
        _cancel(answers)


def _cancel(answers: Sequence[Answer]) -> None:
    for answer in answers:
        answer.cancel()


def _text(body: GenerateRequest, text: str, end: End) -> str:
    """As in TGI the stop string is part of the text."""
    full = text + (end.stop or "")
    return body.inputs + full if body.parameters.return_full_text else full


def _account(body: GenerateRequest, end: End) -> dict[str, Any]:
    """As in TGI there is a seed only where something was drawn."""
    seed = end.seed if body.parameters.draws else None
    return {"finish_reason": _FINISH_REASONS[end.reason], "generated_tokens": end.new_tokens, "seed": seed}
