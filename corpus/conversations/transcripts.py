"""Whole conversations written as one text: a blank line, then `Human:` or `Assistant:`, and so on.

The form of Anthropic's public preferences (Bai et al., arXiv:2204.05862) and of what was made after them.
"""

from __future__ import annotations

import re
from typing import Any

from corpus.conversations.examples import Message, Role
from corpus.conversations.problems import BadRow

_ROLES: dict[str, Role] = {"Human": "user", "User": "user", "Assistant": "assistant", "System": "system"}
#: One space behind the colon belongs to the form, not to the text.
_TURN = re.compile(rf"(?:\A\s*|\n\n)({'|'.join(_ROLES)}):[ ]?")
#: How other forms of chats in one text begin a user's turn, and the assistant's behind it.
_SPOKEN = tuple(
    (re.compile(asked), re.compile(answered))
    for asked, answered in (
        (
            r"(?:^|\n)(?:#{1,6} ?(?:Human|User|Instruction)|USER|Human|User):",
            r"(?:#{1,6} ?(?:Assistant|Response)|ASSISTANT|Assistant):",
        ),
        (r"\[INST\]", r"\[/INST\]"),
        (r"<\|im_start\|>user", r"<\|im_start\|>assistant"),
        (r"<\|user\|>", r"<\|assistant\|>"),
        (r"<start_of_turn>user", r"<start_of_turn>model"),
    )
)


def is_spoken(text: str) -> bool:
    """Whether a text holds a whole chat, in one of the forms that models were trained with."""
    begins = ((asked.search(text), answered) for asked, answered in _SPOKEN)
    return any(first is not None and answered.search(text, first.end()) is not None for first, answered in begins)


def is_transcript(value: Any) -> bool:
    """Whether it is a text that begins with a turn and holds an assistant's."""
    if not isinstance(value, str) or not (first := _TURN.match(value)):
        return False
    return first.group(1) != "Assistant" and any(found.group(1) == "Assistant" for found in _TURN.finditer(value))


def asks_in_transcript(value: str) -> bool:
    """Whether it is a transcript that ends where the assistant is to answer."""
    return is_transcript(value) and bool(re.search(r"\n\nAssistant:\s*\Z", value))


def transcript_turns(text: str, field: str) -> tuple[Message, ...]:
    """Its turns; an `Assistant:` with nothing behind it, at the end, is none. Raises BadRow."""
    found = list(_TURN.finditer(text))
    if not found or found[0].start() != 0:
        remedy = 'Write a blank line and "Human: ...", then a blank line and "Assistant: ...".'
        raise BadRow(field, "it is not a transcript: it doesn't begin with Human:.", remedy)
    ends = [*(match.start() for match in found[1:]), len(text)]
    turns = [Message(_ROLES[match.group(1)], text[match.end() : end]) for match, end in zip(found, ends, strict=True)]
    if turns[-1].role == "assistant" and not turns[-1].content.strip():
        turns.pop()
    return tuple(turns)
