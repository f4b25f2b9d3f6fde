"""Fields of turns that are passed over: they are named, so that nobody has to find out."""

from __future__ import annotations

from corpus.conversations.examples import Example, messages_of


def unread_fields(example: Example) -> list[str]:
    """The names of those that hold something."""
    return sorted({name for message in messages_of(example) for name in message.unread})
