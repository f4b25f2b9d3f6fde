"""JSON bodies, read strictly: at most 1 MB and 32 levels, no duplicate keys, finite numbers, real Unicode."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from fastapi import Request

from api.errors import ApiError

BODY_BYTES_MAX = 1_000_000
DEPTH_MAX = 32
#: A string (also one that never ends) or a bracket. Possessive, so it takes linear time on any input.
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


class StrictRequest(Request):
    """A request whose body is bounded while it is received, and whose JSON is strict. Raises ApiError 400 and 413."""

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            received = bytearray()
            async for chunk in self.stream():
                received += chunk
                if len(received) > BODY_BYTES_MAX:
                    raise ApiError(413, f"The body is larger than {BODY_BYTES_MAX:,} bytes.")
            self._body = bytes(received)
        return self._body

    async def json(self) -> Any:
        try:
            return parse_json(await self.body())
        except UnacceptableJson as error:
            raise ApiError(400, f"The body is not acceptable JSON: {error}.", code="invalid_json") from error


class UnacceptableJson(ValueError):
    """The text is not JSON as we take it; the message says where and why."""


def parse_json(body: bytes) -> Any:
    """A document that people send. Raises UnacceptableJson."""
    document = _parsed(body, parse_constant=_constant, parse_float=_number)
    if rb"\u" in body:
        _check_texts(document)
    return document


def parse_json_file(content: bytes) -> Any:
    """A file of a model: any text in its strings, and infinite numbers, are its own affair. Raises UnacceptableJson."""
    return _parsed(content)


def _parsed(text: bytes, **hooks: Any) -> Any:
    if _depth(text) > DEPTH_MAX:
        raise UnacceptableJson(f"it is nested deeper than {DEPTH_MAX} levels")
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=_object, **hooks)
    except UnicodeDecodeError as error:
        raise UnacceptableJson(f"byte {error.start + 1} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise UnacceptableJson(f"{error.msg} (line {error.lineno}, column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise UnacceptableJson(str(error)) from error


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
            if any("\ud800" <= character <= "\udfff" for character in value):
                raise UnacceptableJson("a string holds half a surrogate pair")
            if "\0" in value:
                raise UnacceptableJson("a string holds a NUL character")


def _depth(body: bytes) -> int:
    depth = deepest = 0
    for match in _STRING_OR_BRACKET.finditer(body):
        first = match[0][0]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in b"]}":
            depth -= 1
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r} appears twice")
    return found


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no number in JSON")


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value
