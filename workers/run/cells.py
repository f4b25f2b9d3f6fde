"""What a cell of a training table must hold. Errors name file, row and column."""

from __future__ import annotations

import math
from typing import Any

from jobspecs.lifecycle import Reason
from jobspecs.problems import Problem
from workers.run.context import RunFailed

_TRUTH = {"true": 1.0, "false": 0.0}


def text_cell(value: Any, column: str, file: str, row: int) -> str:
    """The cell as text; numbers and truth values of typed formats become `3` and `true`. Raises RunFailed for none."""
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value).strip()
    if not text:
        raise _invalid("the cell is empty.", "Fill it or leave the row out.", column, file, row)
    return text


def number_cell(value: Any, column: str, file: str, row: int) -> float:
    """The cell as a finite number; truth values are 1 and 0. Raises RunFailed for what is none."""
    text = "" if value is None else str(value).strip().lower()
    try:
        number = _TRUTH[text] if text in _TRUTH else float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        message = f"{text!r} is not a number." if text else "the cell is empty."
        raise _invalid(message, "Use 0 and 1, or a score within score_range.", column, file, row)
    return number


def score_cell(value: Any, column: str, score_range: tuple[float, float], file: str, row: int) -> float:
    """The score, with the range's ends as 0 and 1. Raises RunFailed for what is no number or not in the range."""
    number = number_cell(value, column, file, row)
    low, high = score_range
    if not low <= number <= high:
        message = f"{number:g} is not between {low:g} and {high:g}."
        remedy = "Mend the row, or set score_range to the least and the greatest score."
        raise _invalid(message, remedy, column, file, row)
    return (number - low) / (high - low)


def _invalid(message: str, remedy: str, column: str, file: str, row: int) -> RunFailed:
    problem = Problem(file=file, row=row, field=column, message=message, remedy=remedy)
    return RunFailed(Reason.invalid_dataset, str(problem))
