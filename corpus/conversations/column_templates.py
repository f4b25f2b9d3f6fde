"""Texts made of columns: `Write an abstract with the title {title}`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corpus.conversations.problems import BadRow
from corpus.conversations.turns import kind_of
from jobspecs.problems import InvalidInput, Problem

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
        """Raises BadRow when a column's value is missing or no text, number or truth value."""
        return "".join(self._cell(row, part) if position % 2 else part for position, part in enumerate(self.parts))

    def _cell(self, row: Mapping[str, Any], column: str) -> str:
        value = row.get(column)
        if value is None or isinstance(value, list | dict):
            raise BadRow(column, f"{self.field} needs this column, which is {kind_of(value)}.", "Write a text there.")
        return ("true" if value else "false") if isinstance(value, bool) else str(value)


def parse_template(text: str, field: str) -> ColumnTemplate:
    """Raises InvalidInput for a brace that opens or closes nothing."""
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
            raise InvalidInput(
                [
                    Problem(
                        field=field,
                        message=f"the brace at character {match.start() + 1} holds no column.",
                        remedy="Write {column} for a column, {{ and }} for braces.",
                    )
                ]
            )
    parts[-1] += text[end:]
    return ColumnTemplate(field, tuple(parts))


def check_columns(template: ColumnTemplate, columns: Sequence[str]) -> None:
    """Raises InvalidInput for a column that the data doesn't have."""
    for name in template.columns:
        if name not in columns:
            problem = Problem(
                field=template.field,
                message=f"there is no column {name!r}; the columns are {', '.join(columns)}.",
                remedy="Use one of these names in the braces.",
            )
            raise InvalidInput([problem])
