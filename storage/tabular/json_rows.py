"""Rows of a JSON Lines file: one object per line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from jobspecs.problems import InvalidInput
from jobspecs.strict_json import unique_fields
from storage.tabular.formats import refusal
from storage.tabular.lines import BadLine, Line

_VALUE_REMEDY = "Mend the value where the file is written, or leave the row out."
_REMEDY = 'Write one JSON object per line, such as {"text": "...", "label": "..."}.'


def json_rows(lines: Iterator[Line], file: str) -> Iterator[dict[str, Any]]:
    """Yields each line's object. Raises InvalidInput with the row for anything that is not one strict JSON object."""
    blank: int | None = None
    row = 0
    while True:
        row += 1
        try:
            line = next(lines, None)
        except BadLine as error:
            raise refusal(error.message, file, error.remedy, row) from error
        if line is None:
            return
        if not line.text.strip():
            blank = blank or row
            continue
        if blank is not None:
            raise refusal(f"line {blank} is blank.", file, "Remove blank lines: a row may have got lost there.", blank)
        yield _parsed(line, file, row)


def _parsed(line: Line, file: str, row: int) -> dict[str, Any]:
    try:
        value = DECODER.decode(line.text)
    except json.JSONDecodeError as error:
        message = f"line {line.number} is not JSON: {error.msg} at character {error.colno}."
        raise refusal(message, file, _remedy_of(line.text, error), row) from error
    except (ValueError, RecursionError) as error:
        raise unusable(error, f"line {line.number}", file, row) from error
    return checked_row(value, f"line {line.number}", file, row)


def _remedy_of(text: str, error: json.JSONDecodeError) -> str:
    """For what people and programs write instead of JSON."""
    rest = text[error.pos :].strip()
    if error.msg == "Extra data" and rest == ",":
        return "Remove the comma behind each object."
    if error.msg == "Extra data" and rest.startswith(("//", "#", "/*")):
        return "Remove comments; JSON has none."
    if text.lstrip().startswith("{'"):
        return "Python's spelling is not JSON: write each row with json.dumps(row)."
    return _REMEDY


def checked_row(value: object, place: str, file: str, row: int) -> dict[str, Any]:
    """The value if it is an object with fields. `place` is what errors call it, such as `line 3`."""
    if is_encoded_twice(value):
        remedy = "Write the object itself: json.dumps was called twice."
        raise refusal(f"{place} is JSON within a text.", file, remedy, row)
    if not isinstance(value, dict):
        raise refusal(f"{place} is not an object but {_kind(value)}.", file, _REMEDY, row)
    if not value:
        raise refusal(f"{place} is an object without fields.", file, _REMEDY, row)
    return value


def is_encoded_twice(value: object) -> bool:
    """Whether it is a text that holds an object as JSON."""
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(value), dict)
    except (ValueError, RecursionError):
        return False


def unusable(error: ValueError | RecursionError, place: str, file: str, row: int | None) -> InvalidInput:
    """For what DECODER refuses although it is JSON."""
    reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
    if "integer string conversion" in reason:
        reason = "a whole number has more than 4,300 digits"
    return refusal(f"{place} can't be used: {reason}.", file, _VALUE_REMEDY, row)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large; write it as a text")
    return number


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON; write null for a missing number")


#: Strict: no NaN, no number that is infinite, no field twice.
DECODER = json.JSONDecoder(object_pairs_hook=unique_fields, parse_constant=_no_constant, parse_float=_finite)


def _kind(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
