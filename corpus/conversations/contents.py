"""The text of a turn, which may be in parts, and what stands beside the texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from corpus.conversations.problems import BadRow
from corpus.conversations.values import kind_of

#: Says how a part is kept by whoever serves it, nothing of what is said.
_IDLE = ("cache_control", "annotations")
_REMEDY = "Only texts can be trained: leave rows with images or sound out, and write calls of tools as tool_calls."


def content_text(value: Any, field: str, remedy: str) -> str:
    """A text, or the parts of one put together; a part is a text or `{"type": "text", "text": ...}`. Raises BadRow."""
    if isinstance(value, list):
        return "".join(_part(part, f"{field}[{index}]") for index, part in enumerate(value))
    if isinstance(value, str):
        return value
    raise BadRow(field, f"the turn's text is {kind_of(value)}.", remedy)


def unread_of_parts(value: Any) -> Iterator[str]:
    """Fields of a content's parts that nobody reads, with a value."""
    for part in value if isinstance(value, list) else ():
        if isinstance(part, dict):
            read = ("type", "text", *_IDLE)
            yield from (
                f"content.{key}" for key, held in part.items() if key not in read and held not in (None, "", [], {})
            )


def _part(part: Any, field: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise BadRow(field, f"the part is not a text but {kind_of(part)}.", _REMEDY)
    kind = part.get("type")
    text = part.get("text")
    if kind not in (None, "text", "input_text", "output_text"):
        raise BadRow(field, f"the part is not a text but of the type {kind!r}.", _REMEDY)
    if not isinstance(text, str):
        raise BadRow(field, f"the part holds no text; it has {', '.join(map(str, part)) or 'nothing'}.", _REMEDY)
    return text
