"""What tools answer: small enough for whoever reads it, and an error as a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

from eigenwerk.client import Client
from eigenwerk.errors import EigenwerkError

Answer = dict[str, Any]
#: A client with the rights of whoever sent the request.
Clients = Callable[[Context[Any, Any]], AbstractContextManager[Client]]

#: Characters of an answer: some 6,000 tokens of whoever reads it.
ANSWER_CHARS_MAX = 24_000
#: Characters of a text and items of a list in it; tried one after the other until the answer fits.
_LIMITS = ((4000, 100), (1000, 50), (300, 20), (100, 8), (40, 3))


def answered(value: BaseModel | Mapping[str, Any]) -> Answer:
    """The value as plain JSON without what is not there; long texts and lists are cut, and say so."""
    plain = _plain(value)
    for chars, items in _LIMITS:
        short = _shortened(plain, chars, items)
        if len(json.dumps(short, ensure_ascii=False)) <= ANSWER_CHARS_MAX:
            break
    else:
        short = {"cut": "This answer is too long to be told. Ask for less, or look at it with the command line."}
    return {str(name): item for name, item in short.items()}


@contextmanager
def said_plainly() -> Iterator[None]:
    """What the platform refuses is the tool's error, with all that is wrong."""
    try:
        yield
    except EigenwerkError as error:
        told = [line for one in error.problems if (line := str(one)) not in error.message]
        raise ToolError("\n".join([error.message, *told])[:ANSWER_CHARS_MAX]) from error


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json"))
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items() if item not in (None, [], {})}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _shortened(value: Any, chars: int, items: int) -> Any:
    if isinstance(value, str) and len(value) > chars:
        return f"{value[:chars]}… ({len(value) - chars:,} more characters)"
    if isinstance(value, dict):
        kept = {name: _shortened(item, chars, items) for name, item in list(value.items())[:items]}
        return kept if len(value) <= items else {**kept, "…": f"{len(value) - items:,} more fields"}
    if isinstance(value, list):
        kept_items = [_shortened(item, chars, items) for item in value[:items]]
        return kept_items if len(value) <= items else [*kept_items, f"… {len(value) - items:,} more"]
    return value
