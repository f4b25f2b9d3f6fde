"""Turns of a conversation as data sets write them: OpenAI's role and content, ShareGPT's from and value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from corpus.conversations.contents import content_text, unread_of_parts
from corpus.conversations.examples import Message, Role
from corpus.conversations.learning_flags import FLAGS, flag_of, with_flags
from corpus.conversations.problems import BadRow
from corpus.conversations.tool_calls import calls_of, unread_of_calls, written_calls
from corpus.conversations.values import kind_of, looks_written, mismatch, written_json

#: Every name of a role that is in use, OpenAI's, ShareGPT's and their kin's, in small letters.
ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
}
#: ShareGPT's role of a turn whose text is a call.
_CALL_ROLE = "function_call"
#: What an assistant thought before it answered, by its names in use.
REASONING = ("reasoning_content", "reasoning", "thinking")
_NO_ANSWER = "no turn is the assistant's, so there is nothing to learn."
_OPENAI = 'Write each turn as {"role": "user", "content": "..."}.'
_SHAREGPT = 'Write each turn as {"from": "human", "value": "..."}.'


@dataclass(frozen=True)
class TurnRules:
    """What is done with turns that no chat can have; by default their row is refused."""

    merge_turns: bool = False
    unanswered: Literal["refuse", "drop"] = "refuse"


#: What is done unless somebody chooses.
STRICT = TurnRules()


def parsed_turns(value: Any, field: str) -> tuple[Message, ...]:
    """The turns of a list in either style; a single turn counts as a list of one. Raises BadRow.

    The list, or a turn, may be JSON within a text: tables of texts hold nothing else.
    """
    value = _unwrapped(value, field, "a list of turns")
    turns = [value] if isinstance(value, dict) else value
    if not isinstance(turns, list):
        raise BadRow(field, mismatch(value, "a list of turns"), _OPENAI)
    places = [f"{field}[{index}]" for index in range(len(turns))]
    turns = [_unwrapped(turn, place, "a turn") for turn, place in zip(turns, places, strict=True)]
    parsed = [_parsed_turn(turn, place) for turn, place in zip(turns, places, strict=True)]
    flags = [flag_of(turn, place) for turn, place in zip(turns, places, strict=True)]
    return with_flags(parsed, flags, field)


def written_turns(text: str) -> bool:
    """Whether a text is a list of turns as JSON, and nothing else."""
    if not looks_written(text):
        return False
    try:
        value = written_json(text, "", "turns")
    except BadRow:
        return False
    return isinstance(value, list) and bool(value) and all(isinstance(turn, dict) and is_turn(turn) for turn in value)


def is_turn(value: Mapping[str, Any]) -> bool:
    """Whether it says who speaks, and what."""
    return bool({"role", "from"} & set(value)) and bool({"content", "value", "tool_calls"} & set(value))


def _unwrapped(value: Any, field: str, wanted: str) -> Any:
    return written_json(value, field, wanted) if looks_written(value) else value


def _parsed_turn(turn: Any, field: str) -> Message:
    """A field that is null counts as absent: so Parquet and Arrow write fields that only other turns have."""
    if not isinstance(turn, dict):
        raise BadRow(field, f"the turn is not an object but {kind_of(turn)}.", _OPENAI)
    given = {key: value for key, value in turn.items() if value is not None}
    role_key = "from" if "role" not in given and "from" in given else "role"
    content_key = "value" if "content" not in given and "value" in given else "content"
    name = given.get(role_key)
    if name == _CALL_ROLE:
        role: Role = "assistant"
        calls = written_calls(given.get(content_key), f"{field}.{content_key}")
        content = ""
    else:
        role = _role(name, f"{field}.{role_key}", given)
        calls = calls_of(given, field)
        if content_key not in given and not calls:
            message = f"the turn's text is missing; it has {', '.join(given)}."
            raise BadRow(f"{field}.{content_key}", message, _SHAREGPT if role_key == "from" else _OPENAI)
        content = content_text(given.get(content_key, ""), f"{field}.{content_key}", _OPENAI)
    if calls and role != "assistant":
        raise BadRow(field, f"the turn is the {role}'s, and calls tools.", "Only the assistant's turns can call tools.")
    return Message(
        role,
        content,
        calls=calls,
        reasoning=_reasoning(given, field) if role == "assistant" else None,
        call_id=_short(given, "tool_call_id", field) if role == "tool" else None,
        name=_short(given, "name", field) if role == "tool" else None,
        unread=tuple(_unread(given, role, (role_key, content_key))),
    )


def _unread(given: Mapping[str, Any], role: Role, keys: tuple[str, str]) -> Iterator[str]:
    """Fields of the turn, of its text's parts and of its calls that nobody reads, with a value."""
    read = {*keys, *FLAGS, "tool_calls", "function_call"}
    read.update(("tool_call_id", "name") if role == "tool" else ())
    read.update(REASONING if role == "assistant" else ())
    yield from (key for key, value in given.items() if key not in read and value not in ("", [], {}))
    yield from unread_of_parts(given.get(keys[1]))
    yield from unread_of_calls(given)


def _role(name: Any, field: str, given: Mapping[str, Any]) -> Role:
    role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        known = ", ".join((*ROLES, _CALL_ROLE))
        held = f"it has {', '.join(given)}" if given else "it is empty"
        message = f"{name!r} is not a role." if name is not None else f"the turn has no role; {held}."
        raise BadRow(field, message, f"Use one of: {known}.")
    return role


def _reasoning(turn: Mapping[str, Any], field: str) -> str | None:
    found = {key: content_text(turn[key], f"{field}.{key}", "Write a text.") for key in REASONING if turn.get(key)}
    if len(set(found.values())) > 1:
        raise BadRow(field, f"{' and '.join(found)} hold different texts.", "Keep one of them.")
    return next((text for text in found.values() if text.strip()), None)


def _short(turn: Mapping[str, Any], key: str, field: str) -> str | None:
    value = turn.get(key)
    if value is not None and not isinstance(value, str):
        raise BadRow(f"{field}.{key}", mismatch(value, "a text"), "Write a text, or leave it out.")
    return value


def tidied(turns: Sequence[Message], field: str, rules: TurnRules) -> tuple[Message, ...]:
    """Consecutive turns of one role joined, turns behind the last answer left out, as `rules` say. Raises BadRow."""
    found: list[Message] = []
    for turn in turns:
        if rules.merge_turns and found and turn.role == found[-1].role and turn.role != "tool":
            found[-1] = _merged(found[-1], turn, field)
        else:
            found.append(turn)
    if rules.unanswered == "drop":
        while found and found[-1].role != "assistant":
            found.pop()
        if turns and not found:
            raise BadRow(
                field, "no turn is the assistant's, so there is nothing to learn.", "Add the answer as a turn."
            )
    return tuple(found)


def _merged(one: Message, other: Message, field: str) -> Message:
    if one.role == "assistant" and one.supervised != other.supervised:
        message = "two assistant turns that follow each other are to be merged, and only one of them is to be learnt."
        raise BadRow(field, message, "Say the same of both, or put the user's turn between them.")
    if one.calls and other.content:
        message = "a text follows a tool call in turns that are to be merged."
        raise BadRow(field, message, "Put the tool's result between them.")
    return replace(
        one,
        content="\n\n".join(text for text in (one.content, other.content) if text),
        calls=(*one.calls, *other.calls),
        reasoning="\n\n".join(text for text in (one.reasoning, other.reasoning) if text) or None,
        unread=(*one.unread, *other.unread),
    )


def checked_conversation(turns: Sequence[Message], field: str) -> tuple[Message, ...]:
    """Turns that end with the assistant's, in an order that a chat can have. Raises BadRow."""
    found = checked_order(turns, field)
    if not any(turn.role == "assistant" for turn in found):
        raise BadRow(field, _NO_ANSWER, "Add the answer as a turn.")
    if found[-1].role != "assistant":
        message = f"the last turn is the {found[-1].role}'s, and nothing answers it."
        raise BadRow(field, message, "Add the answer, or write data: {unanswered: drop} to leave such turns out.")
    if not any(turn.role == "assistant" and turn.supervised for turn in found):
        raise BadRow(field, "no assistant turn is to be learnt.", "Say of one that it is (weight: 1).")
    return found


def checked_order(turns: Sequence[Message], field: str) -> tuple[Message, ...]:
    """The turns without an empty system turn, each with text and where it may stand. Raises BadRow."""
    if turns and turns[0].role == "system" and not turns[0].content.strip():
        turns = turns[1:]
    if not turns:
        raise BadRow(field, "there are no turns.", "Write at least one user and one assistant turn.")
    before: Role | None = None
    for number, turn in enumerate(turns, start=1):
        if not turn.content.strip() and not turn.calls:
            raise BadRow(field, f"turn {number} ({turn.role}) is empty.", "Write its text, or leave the row out.")
        if turn.role not in _FOLLOWERS[before]:
            remedy = _MERGE if turn.role == before and turn.role != "system" else _ORDER
            raise BadRow(field, _misplaced(turn.role, before, number), remedy)
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
_MERGE = "Write data: {merge_turns: true} to join such turns, or put the other's turn between them."
_ORDER = "A conversation is: system (or none), then user and assistant in turn; tool comes behind assistant."


def _misplaced(role: Role, before: Role | None, number: int) -> str:
    if role == "system" and before != "system":
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
