"""JSON, read strictly and in time that grows with its size alone: no duplicate keys, bounded depth, real Unicode."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any

DEPTH_MAX = 32
#: Lists and objects of one document. A tokenizer of 262,144 tokens writes its merges as 514,906 lists; 62 MB of empty
#: lists are 20 million, which took 26 s and 1.7 GB.
CONTAINERS_MAX = 2_500_000
#: Lists and objects of what people send, and fields of one object: each that is wrong costs the event loop 10 µs.
SENT_CONTAINERS_MAX = 20_000
SENT_FIELDS_MAX = 1000
#: How Python begins to say that a number has more digits than it reads, before it names a function to call.
_TOO_MANY_DIGITS = "Exceeds the limit"
#: A string (also one that never ends) or a bracket. Possessive, so it takes linear time on any input.
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")
_ESCAPE = rb"\u"


class UnacceptableJson(ValueError):
    """The text is not JSON as we take it; the message says where and why."""


def parse_json(body: bytes) -> Any:
    """A document that people send. Raises UnacceptableJson."""
    document = _parsed(
        body, SENT_CONTAINERS_MAX, object_pairs_hook=_few_fields, parse_constant=_constant, parse_float=_number
    )
    if _ESCAPE in body:
        _check_texts(document)
    return document


def parse_json_file(content: bytes, containers_max: int = CONTAINERS_MAX) -> Any:
    """A file of a model, of at most so many lists and objects. Raises UnacceptableJson.

    Any text in its strings, and infinite numbers, are its own affair.
    """
    return _parsed(content, containers_max, object_pairs_hook=unique_fields)


def unique_fields(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """For `object_pairs_hook`: the object. Raises ValueError that names a field which is there twice."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the field {name[:200]!r} appears twice")
        found[name] = value
    return found


def _few_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > SENT_FIELDS_MAX:
        raise ValueError(f"an object has more than {SENT_FIELDS_MAX:,} fields")
    return unique_fields(pairs)


def _parsed(text: bytes, containers_max: int, **hooks: Any) -> Any:
    _check_nesting(text, containers_max)
    try:
        return json.loads(text.decode("utf-8"), **hooks)
    except UnicodeDecodeError as error:
        raise UnacceptableJson(f"byte {error.start + 1} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise UnacceptableJson(f"{error.msg} (line {error.lineno}, column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        message = "a whole number has too many digits" if str(error).startswith(_TOO_MANY_DIGITS) else str(error)
        raise UnacceptableJson(message) from error


def _check_texts(document: Any) -> None:
    """Escapes can spell what UTF-8 can't, half a surrogate pair. PostgreSQL takes neither that nor NUL."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str):
            if _HALF_OF_A_PAIR.search(value):
                raise UnacceptableJson("a string holds half a surrogate pair")
            if "\0" in value:
                raise UnacceptableJson("a string holds a NUL character")


def _check_nesting(body: bytes, containers_max: int) -> None:
    depth = containers = 0
    for match in _STRING_OR_BRACKET.finditer(body):
        first = match[0][0]
        if first in b"[{":
            depth += 1
            containers += 1
            if depth > DEPTH_MAX:
                raise UnacceptableJson(f"it is nested deeper than {DEPTH_MAX} levels")
            if containers > containers_max:
                raise UnacceptableJson(f"it holds more than {containers_max:,} lists and objects")
        elif first in b"]}":
            depth -= 1


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no number in JSON")


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value
