"""What a cell of a table is: as a text, as a class, as a number. Checks and jobs both call these functions.

Nothing becomes a text that is none: a list, an object or bytes would be trained as Python spells them. All functions
raise InvalidInput with file, row and column for what they can't take.
"""

from __future__ import annotations

import math
import re
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

from jobspecs.problems import InvalidInput, Problem
from storage.tabular.values import text_of

_COMMA_NUMBER = re.compile(r"[+-]?[\d.]*,[\d.,]*%?", re.ASCII)
_LISTED_NUMBERS = frozenset("0123456789., +-")
_TEXT = "Write a text there."
_TRUTH = {"true": 1.0, "false": 0.0}
#: From here on not every whole number is a float.
_WHOLE_MAX = 10**15


def text_cell(value: Any, column: str, file: str | None, row: int) -> str:
    """The cell as text. Numbers and truth values of typed formats become `3` and `true`, and 3.0 is `3` as well."""
    text = plain(value)
    if text is None:
        raise _not(f"a text but {_kind(value)}", _TEXT, column, file, row)
    return _filled(text.strip(), column, file, row)


def label_cell(value: Any, column: str, file: str | None, row: int) -> str:
    """The cell as the name of a class: as `text_cell`, which is one per row. A list written as a text is a list."""
    if isinstance(value, list | tuple) or (isinstance(value, str) and _is_written_list(value)):
        message, remedy = "several labels per row are not supported.", "Write one class per row, as a text."
        raise _invalid(message, remedy, column, file, row)
    if isinstance(value, str) and _is_written_object(value.strip()):
        raise _not("a text but an object", _TEXT, column, file, row)
    return text_cell(value, column, file, row)


def number_cell(value: Any, column: str, file: str | None, row: int) -> float:
    """The cell as a finite number; truth values are 1 and 0."""
    text = plain(value)
    remedy = "Use 0 and 1, or a score within score_range."
    if text is None:
        raise _not(f"a number but {_kind(value)}", remedy, column, file, row)
    text = _filled(text.strip(), column, file, row).lower()
    if _COMMA_NUMBER.fullmatch(text):
        message = f"{text[:40]!r} has a comma, which may part decimals or thousands."
        raise _invalid(message, "Write a point before the decimals, and nothing between thousands.", column, file, row)
    try:
        # Python alone takes 1_000.
        number = _TRUTH[text] if text in _TRUTH else float(text.replace("_", "?"))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _invalid(f"{text[:40]!r} is not a number.", remedy, column, file, row)
    return number


def score_cell(
    value: Any, column: str, score_range: tuple[float, float], file: str | None, row: int, *, only_ends: bool = False
) -> float:
    """The score, with the range's ends as 0 and 1; with `only_ends` one of these, for a loss that knows no other."""
    number = number_cell(value, column, file, row)
    low, high = score_range
    if not low <= number <= high:
        message = f"{number:g} is not between {low:g} and {high:g}."
        remedy = "Mend the row, or set score_range to the least and the greatest score."
        raise _invalid(message, remedy, column, file, row)
    score = (number - low) / (high - low)
    if only_ends and score not in (0.0, 1.0):
        message = f"{number:g} is neither end of score_range, and contrastive knows only alike and different."
        raise _invalid(message, "Use cosent for scores in between.", column, file, row)
    return score


def plain(value: Any) -> str | None:
    """A scalar as text, empty for a missing one; None for what is no scalar."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal | float):
        return _number(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, date | time | timedelta):
        return text_of(value)
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return None
    return None


def _is_written_list(text: str) -> bool:
    """Whether it is a list of texts or numbers as JSON or Python writes it: so data frames save lists in CSV."""
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return False
    held = text[1:-1].strip()
    return (held[:1] in "'\"" and held[-1:] in "'\"") or set(held) <= _LISTED_NUMBERS


def _is_written_object(text: str) -> bool:
    return text.startswith("{") and text.endswith("}") and text[1:].lstrip()[:1] in ("'", '"')


def _number(value: float | Decimal) -> str:
    """As JSON and people write it. NaN is how data frames say that a number is missing."""
    if not math.isfinite(value):
        return ""
    return str(int(value)) if -_WHOLE_MAX < value < _WHOLE_MAX and value == int(value) else str(value)


def _filled(text: str, column: str, file: str | None, row: int) -> str:
    if not text:
        raise _invalid("the cell is empty.", "Fill it or leave the row out.", column, file, row)
    return text


def _kind(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    return "bytes that are not UTF-8" if isinstance(value, bytes) else f"of the type {type(value).__name__}"


def _not(what: str, remedy: str, column: str, file: str | None, row: int) -> InvalidInput:
    return _invalid(f"it is not {what}.", remedy, column, file, row)


def _invalid(message: str, remedy: str, column: str, file: str | None, row: int) -> InvalidInput:
    return InvalidInput([Problem(file=file, row=row, field=column, message=message, remedy=remedy)])
