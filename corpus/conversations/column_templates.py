"""Texts made of columns: `Write an abstract with the title {title}`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corpus.cells import plain
from corpus.conversations.problems import BadRow
from corpus.conversations.values import kind_of
from jobspecs.problems import InvalidInput, Problem

#: As long as a job's spec lets one be.
TEMPLATE_CHARS_MAX = 20_000
PLACES_MAX = 100
#: A hundred places with a megabyte each would make a text of 100 MB of every row.
FILLED_CHARS_MAX = 4_000_000
#: `{{` and `}}` are braces; anything else between braces is the name of a column, taken literally.
_PIECES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True)
class ColumnTemplate:
    """A text with places for columns. Values are put in as they are: nothing in them, or in a name, is evaluated."""

    #: What errors call it, such as `prompt`.
    field: str
    #: Texts at even positions, names of columns at odd ones.
    parts: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.parts[1::2]))

    def fill(self, row: Mapping[str, Any]) -> str:
        """Raises BadRow when a column's value is missing or no text, number or other scalar, or the text too long."""
        pieces = [self._cell(row, part) if position % 2 else part for position, part in enumerate(self.parts)]
        if (chars := sum(map(len, pieces))) > FILLED_CHARS_MAX:
            message = f"the text would have {chars:,} characters; {FILLED_CHARS_MAX:,} are possible."
            raise BadRow(self.field, message, "Write fewer places for columns, or shorten the columns' texts.")
        return "".join(pieces)

    def _cell(self, row: Mapping[str, Any], column: str) -> str:
        value = row.get(column)
        text = plain(value)
        if text is None or (not text and not isinstance(value, str)):
            raise BadRow(column, f"{self.field} needs this column, which is {kind_of(value)}.", "Write a text there.")
        return text


def parse_template(text: str, field: str) -> ColumnTemplate:
    """Raises InvalidInput for a brace that opens or closes nothing, too long a text and too many places."""
    if len(text) > TEMPLATE_CHARS_MAX:
        raise _refused(field, f"it has {len(text):,} characters; {TEMPLATE_CHARS_MAX:,} are possible.", "Shorten it.")
    parts = [""]
    end = 0
    for match in _PIECES.finditer(text):
        parts[-1] += text[end : match.start()]
        end = match.end()
        piece = match.group()
        if piece in ("{{", "}}"):
            parts[-1] += piece[0]
        elif match.group(1):
            parts += [match.group(1), ""]
        else:
            message = f"the brace at character {match.start() + 1} holds no column."
            raise _refused(field, message, "Write {column} for a column, {{ and }} for braces.")
    if (places := len(parts) // 2) > PLACES_MAX:
        raise _refused(field, f"it has {places:,} places for columns; {PLACES_MAX} are possible.", "Write fewer.")
    parts[-1] += text[end:]
    return ColumnTemplate(field, tuple(parts))


def check_columns(template: ColumnTemplate, columns: Sequence[str]) -> None:
    """Raises InvalidInput for a column that the data doesn't have."""
    for name in template.columns:
        if name not in columns:
            message = f"there is no column {name!r}; the columns are {', '.join(columns)}."
            raise _refused(template.field, message, "Use one of these names in the braces.")


def _refused(field: str, message: str, remedy: str) -> InvalidInput:
    return InvalidInput([Problem(field=field, message=message, remedy=remedy)])
