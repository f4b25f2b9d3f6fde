"""Where the rows of a file are when they don't simply follow one another, and whether they are questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

#: `plain`: one row behind the other, as the format has them. `array`: a JSON array. `lines`: an object per line.
#: `below`: an array below one key of an object. The others are pandas' orients.
Container = Literal["plain", "array", "lines", "below", "columns", "index", "split"]
_QUESTIONS = "questions/"


@dataclass(frozen=True)
class Layout:
    """As text: `columns`, `below:data`, `questions/below:data`."""

    container: Container = "plain"
    #: The key below which the array is.
    key: str | None = None
    #: Rows, or what holds them, ask about paragraphs as SQuAD does, and become pairs of question and paragraph.
    questions: bool = False

    def __str__(self) -> str:
        place = self.container if self.key is None else f"{self.container}:{self.key}"
        return f"{_QUESTIONS}{place}" if self.questions else place

    @property
    def whole(self) -> bool:
        """Whether even the first row needs the whole file."""
        return self.container in ("columns", "split")


def parse_layout(text: str) -> Layout:
    """Raises ValueError with a message for people."""
    container, _, key = text.removeprefix(_QUESTIONS).partition(":")
    if container not in get_args(Container) or bool(key) != (container == "below"):
        raise ValueError(f"{text!r} is no layout. Use columns, index, split, array, lines or below:KEY.")
    return Layout(cast(Container, container), key or None, text.startswith(_QUESTIONS))
