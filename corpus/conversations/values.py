"""What the values of rows are: for people, and where one is written as JSON within a text."""

from __future__ import annotations

import json
from typing import Any

from corpus.conversations.problems import BadRow
from storage.tabular.json_rows import DECODER

#: How Python, and not JSON, would begin a list of objects or an object.
_PYTHON = ("[{'", "{'")


def mismatch(value: object, wanted: str) -> str:
    """What is wrong with a value that should be `wanted`, such as `a text`."""
    return "it is missing." if value is None else f"it is not {wanted} but {kind_of(value)}."


def kind_of(value: object) -> str:
    """What a value is, for people."""
    if isinstance(value, float) and value != value:
        return "missing (NaN)"
    names = {str: "a text", bool: "true or false", type(None): "missing", list: "a list", dict: "an object"}
    more = {int: "a number", float: "a number", bytes: "bytes"}
    return (names | more).get(type(value), f"of the type {type(value).__name__}")


def written_json(text: str, field: str, wanted: str) -> Any:
    """What a text holds that should be `wanted` as JSON: so tables of texts hold lists. Raises BadRow."""
    try:
        return DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError):
            raise BadRow(field, f"it is {wanted} as JSON that can't be used: {error}.", f"Write {wanted}.") from error
        if text.lstrip().startswith(_PYTHON):
            message = f"it is {wanted} as Python writes it, not JSON."
            raise BadRow(field, message, "Write it with json.dumps, not with str.") from error
        raise BadRow(field, f"it is a text, and not {wanted} as JSON.", f"Write {wanted}.") from error


def looks_written(value: Any) -> bool:
    """Whether a text may be a list of objects, or an object, as JSON or Python writes it."""
    return isinstance(value, str) and value.lstrip().startswith(("[{", "{"))
