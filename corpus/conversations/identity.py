"""When two examples are the same, and when they ask the same."""

from __future__ import annotations

import json

from corpus.conversations.examples import Example, Judged, Message, PlainText, Preference, turns_of


def content_and_prompt(example: Example) -> tuple[str, str]:
    """All of an example, and what stands before its answer: all of it, for plain texts."""
    texts = _texts(example)
    return "\0".join(texts), "\0".join(_asked(example) or texts)


def sequences_of(example: Example) -> list[tuple[Message, ...] | str]:
    """The turns or the text of every sequence that a model reads of an example."""
    return [example.text] if isinstance(example, PlainText) else [*turns_of(example)]


def _texts(example: Example) -> list[str]:
    wanted = [str(example.desirable)] if isinstance(example, Judged) else []
    turns = sequences_of(example)
    return [text for part in turns for text in ([part] if isinstance(part, str) else _contents(part))] + wanted


def _asked(example: Example) -> list[str]:
    """What stands before the answer; empty for plain texts."""
    if isinstance(example, PlainText):
        return []
    asked = _contents(example.prompt if isinstance(example, Preference) else example.messages[:-1])
    return [*asked, json.dumps(example.tools)] if example.tools else asked


def _contents(messages: tuple[Message, ...]) -> list[str]:
    return [f"{message.role}: {message.reasoning or ''}{message.said}" for message in messages]
