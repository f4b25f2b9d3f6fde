"""What pydantic finds wrong, in the words of whoever wrote the document: their fields, and no machine's types."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from pydantic import ValidationError

from jobspecs.problems import PROBLEMS_MAX, Problem

_WRONG_TYPE = "_type"
_SHOULD = "Input should be "
_WORDS = {
    "extra_forbidden": "unknown field; nothing here reads it: remove it or correct its spelling",
    "missing": "the field is missing",
    "model_type": "Input should be an object with fields",
    "model_attributes_type": "Input should be an object with fields",
    "dict_type": "Input should be an object with fields",
    "mapping_type": "Input should be an object with fields",
    "dataclass_type": "Input should be an object with fields",
    "list_type": "Input should be a list",
    "tuple_type": "Input should be a list",
    "set_type": "Input should be a list",
    "frozen_set_type": "Input should be a list",
    "string_type": "Input should be a text",
    "int_type": "Input should be a whole number",
    "int_parsing": "Input should be a whole number",
    "int_from_float": "Input should be a whole number",
    "float_type": "Input should be a number",
    "float_parsing": "Input should be a number",
    "bool_type": "Input should be true or false",
    "bool_parsing": "Input should be true or false",
    "none_required": "Input should be null",
    "union_tag_not_found": "the field that says which kind it is is missing",
}
EMPTY_TEXT = "the text is empty; send one with a character at least"
#: What pydantic says of sizes: `List should have at least 1 item after validation, not 0`.
_SIZED = re.compile(
    r"(?P<thing>List|Tuple|Set|Frozenset|Dictionary|String) should have "
    r"(?P<bound>at (?:least|most) \d+ (?:items?|characters?))(?: after validation, not (?P<has>more|\d+))?"
)
_THINGS = {
    "Dictionary": "object",
    "String": "text",
    "List": "list",
    "Tuple": "list",
    "Set": "list",
    "Frozenset": "list",
}
#: As pydantic says it.
_EMPTY = "String should have at least 1 character"


def problems_of(error: ValidationError, document: Any) -> list[Problem]:
    """What is wrong with `document`, which was validated: a problem per place, of the first PROBLEMS_MAX errors."""
    return problems_in(error.errors(include_url=False, include_context=False, include_input=False), document)


def problems_in(details: Iterable[Mapping[str, Any]], document: Any) -> list[Problem]:
    """As `problems_of`, of pydantic's errors one by one.

    An alternative that the document didn't mean is not told of: one of another type, or one at which another
    alternative found something wrong further in.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for detail in islice(details, PROBLEMS_MAX):
        place = place_in(document, detail["loc"], missing=detail["type"] == "missing")
        found.setdefault(place, []).append((detail["type"], _in_words(detail["type"], detail["msg"])))
    return [
        Problem(field=place or None, message=_together(errors))
        for place, errors in found.items()
        if not any(other.startswith((f"{place}.", f"{place}[")) for other in found if place)
    ]


def place_in(document: Any, location: Sequence[str | int], *, missing: bool = False) -> str:
    """The user's path to what is wrong, like `messages[2].content`; `missing`: its last part is not there.

    Pydantic puts the names of a union's alternatives into its locations; they are no fields of the document.
    """
    path, value = "", document
    for depth, part in enumerate(location, start=1):
        if isinstance(part, int) and isinstance(value, Sequence) and not isinstance(value, str):
            path += f"[{part}]"
            value = value[part] if part < len(value) else None
        elif isinstance(value, Mapping) and (part in value or (missing and depth == len(location))):
            path += f".{part}" if path else str(part)
            value = value.get(part)
    return path


def _together(errors: Sequence[tuple[str, str]]) -> str:
    """What is wrong at one place: a value of the right type before all else."""
    told = [message for kind, message in errors if not kind.endswith(_WRONG_TYPE)] or [message for _, message in errors]
    first, *others = dict.fromkeys(told)
    said = " or ".join([first, *(message.removeprefix(_SHOULD) for message in others)])
    return said if said.endswith((".", "?", "!")) else f"{said}."


def _in_words(error_type: str, message: str) -> str:
    if message == _EMPTY:
        return EMPTY_TEXT
    if sized := _SIZED.fullmatch(message):
        return f"the {_THINGS[sized['thing']]} should have {sized['bound']}" + (
            f", and has {sized['has']}" if sized["has"] else ""
        )
    return _WORDS.get(error_type, message.removeprefix("Value error, ").rstrip("."))
