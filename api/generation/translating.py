"""text-generation-inference's /generate for engines that answer OpenAI's routes only.

What has no counterpart there is refused in TGI's words: log probabilities of tokens by their ids (`details`), streams
of tokens, grammars.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter, ValidationError

from api.errors import ApiError
from api.generation.service import passed_on
from api.inference.engine import Deployed, wrong_answer
from api.parts import Parts
from jobspecs.dialects import TGI_PARAMETERS
from jobspecs.engines import COMPLETIONS

_PREFIX = "Input validation error: "
#: Of TGI's parameters -> OpenAI's.
_SAME = {"max_new_tokens": "max_tokens", "stop": "stop", "seed": "seed"}
_SAMPLES = ("temperature", "top_p", "top_k")
#: With these it asks for what happens anyway.
_IDLE: Mapping[str, tuple[Any, ...]] = {
    "details": (False,),
    "truncate": (),
    "top_n_tokens": (0,),
    "repetition_penalty": (1,),
    "frequency_penalty": (0,),
}
_TEXT = TypeAdapter(str)


async def generated(
    parts: Parts, request: Request, engine: Deployed, body: Mapping[str, Any], *, as_list: bool = False
) -> JSONResponse:
    """The whole text at once. Raises ApiError for what can't be translated, and as `passed_on`."""
    inputs = _inputs(body)
    if body.get("stream"):
        raise _refused("stream", f"{engine.kind.title} streams at /v1/chat/completions and /v1/completions")
    parameters = _parameters(body)
    wanted, full = _translated(engine, parameters), bool(parameters.get("return_full_text"))
    answer = await passed_on(parts, request, engine, COMPLETIONS, {**wanted, "prompt": inputs})
    text = _text_of(engine.name, bytes(answer.body))
    document = {"generated_text": inputs + text if full else text}
    return JSONResponse([document] if as_list else document, headers={"x-model": engine.model})


def _inputs(body: Mapping[str, Any]) -> str:
    inputs = body.get("inputs")
    if not isinstance(inputs, str) or not inputs:
        raise _refused("inputs", "it must be a text")
    return inputs


def _parameters(body: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise _refused("parameters", "they must be an object")
    return parameters


def _translated(engine: Deployed, parameters: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: value for name, value in parameters.items() if value is not None}
    wanted: dict[str, Any] = {"model": engine.name, "max_tokens": None}
    # As TGI has it: greedy, unless it is told to sample or how to.
    if not said.pop("do_sample", False) and not any(name in said for name in _SAMPLES):
        wanted["temperature"] = 0
    said.pop("return_full_text", None)
    for name, value in said.items():
        if name in _SAME:
            wanted[_SAME[name]] = value
        elif name in _SAMPLES:
            wanted[name] = value
        elif not TGI_PARAMETERS.passes_over(name, value) and value not in _IDLE.get(name, ()):
            raise _refused(f"parameters.{name}", f"{engine.kind.title}, which serves this deployment, can't do this")
    return wanted


def _text_of(name: str, content: bytes) -> str:
    try:
        choice = _ANSWER.validate_json(content)["choices"][0]
        return _TEXT.validate_python(choice["text"])
    except (ValidationError, LookupError, TypeError) as error:
        raise wrong_answer(name, "answered without a text") from error


_ANSWER = TypeAdapter(dict[str, Any])


def _refused(field: str, why: str) -> ApiError:
    return ApiError(422, f"{_PREFIX}`{field}`: {why}.", param=field)
