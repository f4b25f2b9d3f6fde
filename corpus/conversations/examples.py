"""What a row becomes: one of four shapes, whatever format it came in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]
#: What the data is read for; it decides the shape.
Objective = Literal["sft", "dpo", "orpo", "kto", "pretrain"]


@dataclass(frozen=True)
class Message:
    """One turn. An assistant turn with `supervised` false is context: the model reads it and isn't trained on it."""

    role: Role
    content: str
    supervised: bool = True


@dataclass(frozen=True)
class Conversation:
    """Turns that end with the assistant's. `row` is the 1-based data row, here and below."""

    messages: tuple[Message, ...]
    row: int


@dataclass(frozen=True)
class Preference:
    """Two answers to the same prompt, of which people prefer `chosen` (Rafailov et al. 2023, arXiv:2305.18290)."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    row: int


@dataclass(frozen=True)
class Judged:
    """A conversation whose last turn is wanted or not (Ethayarajh et al. 2024, arXiv:2402.01306)."""

    messages: tuple[Message, ...]
    desirable: bool
    row: int


@dataclass(frozen=True)
class PlainText:
    """Text without turns."""

    text: str
    row: int


Example = Conversation | Preference | Judged | PlainText
