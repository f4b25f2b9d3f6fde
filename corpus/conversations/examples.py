"""What a row becomes: one of four shapes, whatever format it came in."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
#: What the data is read for; it decides the shape.
Objective = Literal["sft", "dpo", "orpo", "kto", "pretrain"]


#: What a tool is called, what it does and takes, as OpenAI's API has it: `{"type": "function", "function": {...}}`.
Tool = dict[str, Any]


@dataclass(frozen=True)
class ToolCall:
    """One function that the assistant calls; `arguments` by their names."""

    name: str
    arguments: dict[str, Any]
    id: str | None = None


@dataclass(frozen=True)
class Message:
    """One turn. An assistant turn with `supervised` false is context: the model reads it and isn't trained on it."""

    role: Role
    content: str
    supervised: bool = True
    #: Of the assistant: the tools that it calls, and what it thought first.
    calls: tuple[ToolCall, ...] = ()
    reasoning: str | None = None
    #: Of a tool: the call that it answers, and its name.
    call_id: str | None = None
    name: str | None = None
    #: Fields of the turn that nobody reads, with a value.
    unread: tuple[str, ...] = field(default=(), compare=False)

    @property
    def said(self) -> str:
        """For people: the text, and each call as JSON on a line of its own."""
        calls = (
            json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False) for call in self.calls
        )
        return "\n".join(part for part in (self.content, *calls) if part)


@dataclass(frozen=True)
class Conversation:
    """Turns that end with the assistant's. `row` is the 1-based data row, `tools` those on offer, here and below."""

    messages: tuple[Message, ...]
    row: int
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True)
class Preference:
    """Two answers to the same prompt, of which people prefer `chosen` (Rafailov et al. 2023, arXiv:2305.18290)."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    row: int
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True)
class Judged:
    """A conversation whose last turn is wanted or not (Ethayarajh et al. 2024, arXiv:2402.01306)."""

    messages: tuple[Message, ...]
    desirable: bool
    row: int
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True)
class PlainText:
    """Text without turns."""

    text: str
    row: int


Example = Conversation | Preference | Judged | PlainText


def messages_of(example: Example) -> tuple[Message, ...]:
    """Every turn of an example, of a preference both answers'."""
    if isinstance(example, PlainText):
        return ()
    if isinstance(example, Preference):
        return (*example.prompt, *example.chosen, *example.rejected)
    return example.messages


def turns_of(example: Conversation | Preference | Judged) -> list[tuple[Message, ...]]:
    """The conversations that a model reads of an example: of a preference two."""
    if isinstance(example, Preference):
        return [example.prompt + example.chosen, example.prompt + example.rejected]
    return [example.messages]
