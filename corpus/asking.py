"""What a language model is asked of a row: a prompt made of columns, or a conversation. Checks and jobs both use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from corpus.conversations.column_templates import ColumnTemplate, parse_template
from corpus.conversations.problems import BadRow
from corpus.conversations.turns import parsed_turns

_OPENAI = 'Write each turn as {"role": "user", "content": "..."}.'


@dataclass(frozen=True)
class Asked:
    """The turns that a model shall answer, each with role and content, and what the row itself answers, if anything."""

    turns: tuple[dict[str, str], ...]
    answered: str | None = None

    @property
    def text(self) -> str:
        """All that is said, for counting and comparing."""
        return "\n".join(turn["content"] for turn in self.turns)


@dataclass(frozen=True)
class Asking:
    """How rows become questions: `prompt` with {column} places and a `system` prompt, or a column of `messages`."""

    prompt: str | None = None
    system: str | None = None
    messages: str | None = None

    def of(self, row: Mapping[str, Any]) -> Asked:
        """Raises BadRow for a row that can't be asked."""
        if self.messages is not None:
            return _conversation(row.get(self.messages), self.messages)
        turns = [
            {"role": role, "content": template.fill(row)}
            for role, template in (("system", self._system), ("user", self._prompt))
            if template is not None
        ]
        return Asked(tuple(turns))

    @cached_property
    def _prompt(self) -> ColumnTemplate | None:
        return parse_template(self.prompt, "prompt") if self.prompt is not None else None

    @cached_property
    def _system(self) -> ColumnTemplate | None:
        return parse_template(self.system, "system") if self.system is not None else None


def _conversation(value: Any, column: str) -> Asked:
    turns = parsed_turns(value, column)
    for place, turn in enumerate(turns):
        if turn.calls or turn.role == "tool":
            message = "the turn calls a tool or is a tool's answer, and no tools are on offer here."
            raise BadRow(f"{column}[{place}]", message, "Leave rows with tools out.")
    asked = len(turns)
    while asked and turns[asked - 1].role == "assistant":
        asked -= 1
    if not asked:
        raise BadRow(column, "no turn asks anything.", _OPENAI)
    answered = "\n".join(turn.content for turn in turns[asked:]) if asked < len(turns) else None
    return Asked(tuple({"role": turn.role, "content": turn.content} for turn in turns[:asked]), answered)
