"""Turns of a conversation as data sets write them: OpenAI's role and content, ShareGPT's from and value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from corpus.conversations.examples import Message, Role
from corpus.conversations.problems import BadRow

#: Every name of a role that is in use, OpenAI's and ShareGPT's.
ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
#: Fields in which an assistant calls tools instead of writing text.
_CALLS = ("tool_calls", "function_call")
_OPENAI = 'Write each turn as {"role": "user", "content": "..."}.'
_SHAREGPT = 'Write each turn as {"from": "human", "value": "..."}.'


def parsed_turns(value: Any, field: str) -> tuple[Message, ...]:
    """The turns of a list in either style; a single turn counts as a list of one. Raises BadRow."""
    turns = [value] if isinstance(value, dict) else value
    if not isinstance(turns, list):
        raise BadRow(field, mismatch(value, "a list of turns"), _OPENAI)
    return tuple(_parsed_turn(turn, f"{field}[{index}]") for index, turn in enumerate(turns))


def _parsed_turn(turn: Any, field: str) -> Message:
    if not isinstance(turn, dict):
        raise BadRow(field, f"the turn is not an object but {kind_of(turn)}.", _OPENAI)
    sharegpt = "from" in turn or "value" in turn
    role_key, content_key = ("from", "value") if sharegpt else ("role", "content")
    for key in _CALLS:
        if turn.get(key):
            remedy = "Leave such rows out, or write the call as the text that the model shall produce."
            raise BadRow(f"{field}.{key}", "the turn calls tools, which can't be trained.", remedy)
    name = turn.get(role_key)
    if not isinstance(name, str) or name not in ROLES:
        known = ", ".join(ROLES)
        message = f"{name!r} is not a role." if name is not None else "the turn has no role."
        raise BadRow(f"{field}.{role_key}", message, f"Use one of: {known}.")
    role = ROLES[name]
    content = _content(turn.get(content_key), f"{field}.{content_key}", _SHAREGPT if sharegpt else _OPENAI)
    return Message(role, content, supervised=_weight(turn.get("weight"), f"{field}.weight"))


def _content(value: Any, field: str, remedy: str) -> str:
    if isinstance(value, list):
        return "".join(_part(part, f"{field}[{index}]") for index, part in enumerate(value))
    if isinstance(value, str):
        return value
    raise BadRow(field, f"the turn's text is {kind_of(value)}.", remedy)


def _part(part: Any, field: str) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
    if not isinstance(text, str):
        raise BadRow(
            field, "the part is not a text.", "Only texts can be trained; leave rows with images or sound out."
        )
    return text


def _weight(value: Any, field: str) -> bool:
    if value is None or value in (0, 1):
        return value is None or bool(value)
    raise BadRow(field, f"{value!r} is not a weight.", "Write 1 to train on the turn, 0 not to.")


def checked_conversation(turns: Sequence[Message], field: str) -> tuple[Message, ...]:
    """Turns that end with the assistant's, in an order that a chat can have. Raises BadRow."""
    found = checked_order(turns, field)
    if not any(turn.role == "assistant" for turn in found):
        raise BadRow(field, "no turn is the assistant's, so there is nothing to learn.", "Add the answer as a turn.")
    if found[-1].role != "assistant":
        message = f"the last turn is the {found[-1].role}'s, and nothing answers it."
        raise BadRow(field, message, "Add the assistant's answer, or leave the last turn out.")
    if not any(turn.role == "assistant" and turn.supervised for turn in found):
        raise BadRow(field, "every assistant turn has weight 0, so there is nothing to learn.", "Set one weight to 1.")
    return found


def checked_order(turns: Sequence[Message], field: str) -> tuple[Message, ...]:
    """The turns without an empty system turn, each with text and where it may stand. Raises BadRow."""
    if turns and turns[0].role == "system" and not turns[0].content.strip():
        turns = turns[1:]
    if not turns:
        raise BadRow(field, "there are no turns.", "Write at least one user and one assistant turn.")
    before: Role | None = None
    for number, turn in enumerate(turns, start=1):
        if not turn.content.strip():
            raise BadRow(field, f"turn {number} ({turn.role}) is empty.", "Write its text, or leave the row out.")
        if turn.role not in _FOLLOWERS[before]:
            raise BadRow(field, _misplaced(turn.role, before, number), _ORDER)
        before = turn.role
    return tuple(turns)


#: Which turns may come behind which.
_FOLLOWERS: dict[Role | None, tuple[Role, ...]] = {
    None: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}
_ORDER = "A conversation is: system (or none), then user and assistant in turn; tool comes behind assistant."


def _misplaced(role: Role, before: Role | None, number: int) -> str:
    if role == "system":
        return f"turn {number} is the system's, which may only be the first."
    if role == before:
        return f"turns {number - 1} and {number} are both the {role}'s."
    where = f"behind the {before}'s" if before else "at the beginning"
    return f"turn {number} is the {role}'s, {where}."


def user_and_assistant(asked: str, answered: str) -> tuple[Message, Message]:
    return Message("user", asked), Message("assistant", answered)


def with_system(turns: Iterable[Message], system: str | None) -> tuple[Message, ...]:
    """The turns, with this system turn in front if they have none and it is not empty."""
    turns = tuple(turns)
    if not system or not system.strip() or (turns and turns[0].role == "system"):
        return turns
    return (Message("system", system), *turns)


def mismatch(value: object, wanted: str) -> str:
    """What is wrong with a value that should be `wanted`, such as `a text`."""
    return "it is missing." if value is None else f"it is not {wanted} but {kind_of(value)}."


def kind_of(value: object) -> str:
    """What a value is, for people."""
    names = {str: "a text", bool: "true or false", type(None): "missing", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")
