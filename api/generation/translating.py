"""text-generation-inference's /generate and its stream for engines that answer OpenAI's routes only.

What has no counterpart there is refused in TGI's words: grammars, the prompt's tokens, and tokens by their ids where
the engine does not tell them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from api.errors import ApiError
from api.generation.rewriting import document_of, rewritten
from api.generation.service import passed_on
from api.generation.tgi_answers import Text, events_of
from api.inference.engine import Deployed, wrong_answer
from api.parts import Parts
from jobspecs.dialects import TGI_PARAMETERS
from jobspecs.engines import COMPLETIONS

_PREFIX = "Input validation error: "
#: Of TGI's parameters -> OpenAI's.
_SAME = {"max_new_tokens": "max_tokens", "stop": "stop", "seed": "seed"}
_SAMPLES = ("temperature", "top_p", "top_k")
#: What the answer is written with.
_WRITTEN = frozenset({"return_full_text", "details", "top_n_tokens"})
#: With these it asks for what happens anyway.
_IDLE: Mapping[str, tuple[Any, ...]] = {"truncate": (), "repetition_penalty": (1,), "frequency_penalty": (0,)}


@dataclass(frozen=True)
class _Asked:
    """A request in TGI's shape, as far as it could be read."""

    inputs: str
    stream: bool
    #: Those that say something.
    parameters: Mapping[str, Any]

    @property
    def stops(self) -> tuple[str, ...]:
        stop = self.parameters.get("stop") or ()
        return (stop,) if isinstance(stop, str) else tuple(stop)

    @property
    def top(self) -> int:
        top = self.parameters.get("top_n_tokens")
        return top if isinstance(top, int) else 0


async def generated(
    parts: Parts, request: Request, engine: Deployed, body: Mapping[str, Any], *, as_list: bool = False
) -> Response:
    """The whole text at once, or an event per token. Raises ApiError for what can't be translated, as `passed_on`."""
    asked = _read(body)
    wanted = {**_translated(engine, asked), **_tokens(engine, asked), "prompt": asked.inputs}
    text = Text(
        asked.inputs if asked.parameters.get("return_full_text") else "",
        details=bool(asked.parameters.get("details")),
        stops=asked.stops,
        seed=asked.parameters.get("seed"),
        top=asked.top,
    )
    if asked.stream:
        wanted |= {"stream": True, "stream_options": {"include_usage": True}}
        answer = await passed_on(parts, request, engine, COMPLETIONS, wanted)
        return rewritten(answer, lambda chunks: events_of(chunks, text))
    answer = await passed_on(parts, request, engine, COMPLETIONS, wanted)
    try:
        text.take(document_of(engine.name, answer))
        document = text.document()
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise wrong_answer(engine.name, "answered without a text") from error
    return JSONResponse([document] if as_list else document, headers={"x-model": engine.model})


def _read(body: Mapping[str, Any]) -> _Asked:
    inputs, parameters = body.get("inputs"), body.get("parameters") or {}
    if not isinstance(inputs, str) or not inputs:
        raise _refused("inputs", "it must be a text")
    if not isinstance(parameters, dict):
        raise _refused("parameters", "they must be an object")
    said = {name: value for name, value in parameters.items() if value is not None}
    return _Asked(inputs, bool(body.get("stream")), said)


def _translated(engine: Deployed, asked: _Asked) -> dict[str, Any]:
    said = dict(asked.parameters)
    wanted: dict[str, Any] = {"model": engine.name, "max_tokens": None}
    if engine.kind.adapters_beside and "adapter_id" in said:
        wanted["adapter_id"] = said.pop("adapter_id")
    # As TGI has it: greedy, unless it is told to sample or how to.
    if not said.pop("do_sample", False) and not any(name in said for name in _SAMPLES):
        wanted["temperature"] = 0
    for name, value in said.items():
        if name in _SAME:
            wanted[_SAME[name]] = value
        elif name in _SAMPLES:
            wanted[name] = value
        elif name not in _WRITTEN and not TGI_PARAMETERS.passes_over(name, value) and value not in _IDLE.get(name, ()):
            raise _cannot(engine, f"parameters.{name}")
    return wanted


def _tokens(engine: Deployed, asked: _Asked) -> dict[str, Any]:
    """What has the engine tell its tokens, where the answer needs them. Raises ApiError where it can't."""
    needed = bool(asked.parameters.get("details")), asked.top > 0
    if engine.kind.ids_field is not None:
        wanted = any(needed) or asked.stream or bool(asked.stops)
        return {engine.kind.ids_field: max(1, asked.top)} if wanted else {}
    if any(needed):
        raise _cannot(engine, "parameters.details" if needed[0] else "parameters.top_n_tokens")
    return {}


def _cannot(engine: Deployed, field: str) -> ApiError:
    return _refused(field, f"{engine.kind.title}, which serves this deployment, can't do this")


def _refused(field: str, why: str) -> ApiError:
    return ApiError(422, f"{_PREFIX}`{field}`: {why}.", param=field)
