"""text-generation-inference's (TGI 3.3) /generate, /generate_stream, / and /tokenize for one language model."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from workers.engines.embedded.dialects.logprobs import Named, Naming, Placed, placed_in
from workers.engines.embedded.dialects.refusals import refusing
from workers.engines.embedded.dialects.requests import read
from workers.engines.embedded.dialects.streaming import EventStream, event, nobody_there, while_connected
from workers.engines.embedded.generation.answers import Answer, End, Finish, Step, whole
from workers.engines.embedded.generation.generator import Generator
from workers.engines.embedded.generation.requests import GenerateRequest, TokenizeRequest, Unsupported

_PREFIX = "Input validation error: "
_FINISH_REASONS = {
    Finish.length: "length",
    Finish.end_token: "eos_token",
    Finish.stop_string: "stop_sequence",
}


class TgiRoutes:
    """The routes of one model."""

    def __init__(self, generator: Generator) -> None:
        self._generator, self._model = generator, generator.model
        self._naming = Naming(generator.model)

    def routes(self) -> list[Route]:
        return [
            Route("/generate", self._generate, methods=["POST"]),
            Route("/generate_stream", self._generate_stream, methods=["POST"]),
            Route("/", self._either, methods=["POST"]),
            Route("/tokenize", self._tokenize, methods=["POST"]),
        ]

    async def _generate(self, request: Request) -> Response:
        body, answer = await self._started(request, at_once=True)
        return await self._at_once(request, body, answer, as_list=False)

    async def _generate_stream(self, request: Request) -> Response:
        body, answer = await self._started(request)
        return self._streamed(body, answer)

    async def _either(self, request: Request) -> Response:
        body, answer = await self._started(request)
        return self._streamed(body, answer) if body.stream else await self._at_once(request, body, answer, as_list=True)

    async def _started(self, request: Request, *, at_once: bool = False) -> tuple[GenerateRequest, Answer]:
        with refusing("inputs", prefix=_PREFIX):
            body = await read(GenerateRequest, request)
            if at_once and body.stream:
                raise Unsupported("stream", "this route answers at once. Ask /generate_stream instead.")
            prompt = await self._generator.encode(body.inputs)
            if body.parameters.truncate is not None:
                prompt = prompt[-body.parameters.truncate :]
            sampling = body.parameters.sampling(self._generator.room(prompt))
            return body, self._generator.start(prompt, sampling)

    async def _at_once(self, request: Request, body: GenerateRequest, answer: Answer, *, as_list: bool) -> Response:
        written = await while_connected(request, whole(answer))
        if written is None:
            return nobody_there()
        document: dict[str, Any] = {"generated_text": _text(body, written.text, written.end)}
        if body.parameters.details:
            placed = placed_in(written, with_stop=True)
            document["details"] = {
                **_account(written.end),
                "prefill": [],
                "tokens": [self._token(one) for one in placed],
                **({"top_tokens": [self._top(one) for one in placed]} if body.parameters.top_n_tokens else {}),
            }
        headers = {
            "x-prompt-tokens": str(written.end.prompt_tokens),
            "x-generated-tokens": str(written.end.new_tokens),
        }
        return JSONResponse([document] if as_list else document, headers=headers)

    def _streamed(self, body: GenerateRequest, answer: Answer) -> Response:
        return EventStream(self._events(body, answer), answer.cancel)

    async def _events(self, body: GenerateRequest, answer: Answer) -> AsyncGenerator[str, None]:
        text, count = "", 0
        try:
            async for step in answer:
                text, count = text + step.text, count + 1
                yield event(self._stream_document(body, step, text, count))
        except Exception:
            # The inference thread has logged it. The status is sent already: only the stream can tell.
            message = "Request failed during generation: the engine's log says why."
            yield event({"error": message, "error_type": "generation"})

    def _stream_document(self, body: GenerateRequest, step: Step, text: str, number: int) -> dict[str, Any]:
        """`text`: all of it so far. Clients put `token.text` together: it is what can be shown, not the bare token."""
        placed = Placed(step.pieces[-1], step.pieces[-1].text, 0)
        token = self._token(placed)
        shown = step.text + (step.end.stop or "" if step.end else "")
        document: dict[str, Any] = {
            "index": number,
            "token": {**token, "text": shown, "special": False} if shown or not token["special"] else token,
            "generated_text": _text(body, text, step.end) if step.end else None,
            "details": None,
        }
        if step.end and body.parameters.details:
            document["details"] = {**_account(step.end), "input_length": step.end.prompt_tokens}
        if body.parameters.top_n_tokens:
            document["top_tokens"] = self._top(placed)
        return document

    def _token(self, placed: Placed) -> dict[str, Any]:
        return self._written(self._naming.chosen(placed))

    def _top(self, placed: Placed) -> list[dict[str, Any]]:
        return [self._written(named) for named in self._naming.top(placed)]

    def _written(self, named: Named) -> dict[str, Any]:
        """Special tokens are spelled out; the texts of the others make up the text."""
        special = self._model.is_special(named.token)
        text = self._model.token_text(named.token) if special else named.name
        return {"id": named.token, "text": text, "logprob": named.logprob, "special": special}

    async def _tokenize(self, request: Request) -> Response:
        with refusing("inputs", prefix=_PREFIX):
            body = await read(TokenizeRequest, request)
        spans = await self._generator.encode_spans(body.inputs)
        return JSONResponse(
            [
                {"id": token, "text": body.inputs[start:stop], "start": start, "stop": stop}
                for token, start, stop in spans
            ]
        )


def _text(body: GenerateRequest, text: str, end: End) -> str:
    """As in TGI the stop string is part of the text."""
    full = text + (end.stop or "")
    return body.inputs + full if body.parameters.return_full_text else full


def _account(end: End) -> dict[str, Any]:
    return {"finish_reason": _FINISH_REASONS[end.reason], "generated_tokens": end.new_tokens, "seed": end.seed}
