"""What passes through to the engine of one model, for the API's description: the API itself does not read it."""

from __future__ import annotations

from typing import Any

from api.documented import EVENTS

_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_NUMBER = {"type": "number"}
_TEXTS = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 2048}
_TRUNCATION = {
    "truncate": {**_FLAG, "description": "cut texts that are too long; else they are refused"},
    "truncation_direction": {"enum": ["right"]},
}
_VECTOR_WISHES = {
    "normalize": _FLAG,
    "prompt_name": {"type": ["string", "null"]},
    "dimensions": {"type": ["integer", "null"], "minimum": 1},
}


def _body(required: list[str], **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "required": required, "properties": properties}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _answer(schema: dict[str, Any]) -> dict[int | str, Any]:
    return {200: {"content": {"application/json": {"schema": schema}}}}


_EITHER = {"anyOf": [_TEXT, _TEXTS]}

NATIVE = _body([])
EMBED = _body(["inputs"], inputs=_EITHER, **_VECTOR_WISHES, **_TRUNCATION)
SIMILARITY = _body(
    ["inputs"],
    inputs={
        "type": "object",
        "required": ["source_sentence", "sentences"],
        "properties": {"source_sentence": _TEXT, "sentences": _TEXTS},
    },
    parameters={"type": "object", "properties": {"prompt_name": {"type": ["string", "null"]}, **_TRUNCATION}},
)
RERANK = _body(
    ["query", "texts"],
    query=_TEXT,
    texts={**_TEXTS, "maxItems": 1024},
    raw_scores=_FLAG,
    return_text=_FLAG,
    **_TRUNCATION,
)
PREDICT = _body(
    ["inputs"],
    inputs={"anyOf": [_TEXT, {"type": "array", "items": {**_TEXTS, "maxItems": 1}, "minItems": 1, "maxItems": 1024}]},
    **_TRUNCATION,
)
TOKENIZE = _body(["inputs"], inputs=_EITHER, add_special_tokens=_FLAG)

_OBJECT = {"type": "object"}
VECTORS = _answer({"type": "array", "items": {"type": "array", "items": _NUMBER}})
NUMBERS = _answer({"type": "array", "items": _NUMBER})
OBJECTS = _answer({"type": "array", "items": _OBJECT})
#: A list per text, or one list.
LISTS = _answer({"type": "array", "items": {"anyOf": [_OBJECT, {"type": "array", "items": _OBJECT}]}})
#: An answer of a language model, whole or as events.
STREAMED: dict[int | str, Any] = {200: {"content": {"application/json": {"schema": {}}, **EVENTS["content"]}}}
