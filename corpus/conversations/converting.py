"""From a row of each format to turns. Functions take a row and raise BadRow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from corpus.conversations.examples import Message, Role, Tool
from corpus.conversations.problems import BadRow
from corpus.conversations.tool_calls import offered_tools
from corpus.conversations.transcripts import asks_in_transcript, transcript_turns
from corpus.conversations.turns import (
    TurnRules,
    checked_conversation,
    checked_order,
    is_turn,
    parsed_turns,
    tidied,
    user_and_assistant,
    with_system,
    written_turns,
)
from corpus.conversations.values import mismatch

Row = Mapping[str, Any]
_ONE_PROMPT = "Leave it out, or write into chosen and rejected the answers alone."
Turns = tuple[Message, ...]


@dataclass(frozen=True)
class Pair:
    """A prompt with two answers, and the columns that they came from: prompt, chosen, rejected."""

    prompt: Turns
    chosen: Turns
    rejected: Turns
    fields: tuple[str, str, str]

    def checked(self, rules: TurnRules) -> Pair:
        """Raises BadRow when the turns are no chat, or neither answer is preferred."""
        prompt_field, chosen_field, rejected_field = self.fields
        prompt = checked_order(tidied(self.prompt, prompt_field, replace(rules, unanswered="refuse")), prompt_field)
        if prompt[-1].role not in ("user", "tool"):
            message = f"the prompt ends with the {prompt[-1].role}'s turn, which asks nothing."
            raise BadRow(prompt_field, message, "End it with the user's turn.")
        chosen, rejected = (
            tidied(answer, field, rules)
            for answer, field in ((self.chosen, chosen_field), (self.rejected, rejected_field))
        )
        if chosen == rejected:
            remedy = "Leave the row out, or write a worse answer."
            raise BadRow(rejected_field, f"it equals {chosen_field}, so neither is preferred.", remedy)
        for field, answer in ((chosen_field, chosen), (rejected_field, rejected)):
            checked_conversation((*prompt, *answer), field)
        return Pair(prompt, chosen, rejected, self.fields)


def messages_conversation(row: Row) -> Turns:
    """OpenAI's fine-tuning format; the system turn may be in a column of its own, here and below."""
    return with_system(parsed_turns(row.get("messages"), "messages"), _optional_text(row, "system"))


def sharegpt_conversation(row: Row) -> Turns:
    """ShareGPT's."""
    return with_system(parsed_turns(row.get("conversations"), "conversations"), _optional_text(row, "system"))


def alpaca_conversation(row: Row) -> Turns:
    """Alpaca's (Taori et al. 2023): the instruction, a blank line, and the input make the user's turn."""
    return (*_alpaca_prompt(row), Message("assistant", _text(row, "output")))


def prompt_completion(row: Row) -> Turns:
    """trl's: two texts, or two lists of turns."""
    prompt = _prompt(row)
    return (*prompt, *_answers(row, "completion", prompt if _is_asked_in_text(row) else None))


def openai_pair(row: Row) -> Pair:
    """OpenAI's preference format."""
    asked = row.get("input")
    if not isinstance(asked, dict):
        raise BadRow("input", mismatch(asked, "an object"), 'Write {"messages": [...]}.')
    prompt = parsed_turns(asked.get("messages"), "input.messages")
    return _pair(row, prompt, "input.messages", "preferred_output", "non_preferred_output")


def messages_pair(row: Row) -> Pair:
    """Turns and two answers. The answers may be whole conversations, of which the turns are then one."""
    turns = messages_conversation(row)
    chosen, rejected = _answers(row, "chosen"), _answers(row, "rejected")
    if not (_is_whole(chosen) and _is_whole(rejected)):
        return Pair(turns, chosen, rejected, ("messages", "chosen", "rejected"))
    system = _optional_text(row, "system")
    pair = _whole_pair(with_system(chosen, system), with_system(rejected, system))
    if turns[: len(pair.prompt)] != pair.prompt:
        raise BadRow("messages", "they are not the turns that chosen and rejected begin with.", _ONE_PROMPT)
    return pair


def sharegpt_pair(row: Row) -> Pair:
    return _pair(row, sharegpt_conversation(row), "conversations", "chosen", "rejected")


def alpaca_pair(row: Row) -> Pair:
    prompt = _alpaca_prompt(row)
    answers = _answers(row, "chosen", prompt), _answers(row, "rejected", prompt)
    return Pair(prompt, *answers, ("instruction", "chosen", "rejected"))


def trl_pair(row: Row) -> Pair:
    """trl's: prompt, chosen, rejected as texts or turns. Answers may be whole conversations with one beginning."""
    prompt = _prompt(row) if _is_asked_in_text(row) else None
    chosen, rejected = _answers(row, "chosen", prompt), _answers(row, "rejected", prompt)
    system = _optional_text(row, "system")
    if not (_is_whole(chosen) and _is_whole(rejected)):
        return Pair(_prompt(row), chosen, rejected, ("prompt", "chosen", "rejected"))
    pair = _whole_pair(with_system(chosen, system), with_system(rejected, system))
    if row.get("prompt") not in (None, ""):
        asked = {turn.content.strip() for turn in _prompt(row) if turn.role == "user"}
        if not asked <= {turn.content.strip() for turn in pair.prompt}:
            raise BadRow("prompt", "it is not what chosen and rejected begin with.", _ONE_PROMPT)
    return pair


def transcript_pair(row: Row) -> Pair:
    """Two whole conversations, each written as one text with Human: and Assistant: (Bai et al., arXiv:2204.05862)."""
    return _whole_pair(*(transcript_turns(_text(row, field), field) for field in ("chosen", "rejected")))


def _whole_pair(chosen: Turns, rejected: Turns) -> Pair:
    """The turns that both begin with are the prompt. Raises BadRow where they then go on asking."""
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if not shared:
        message = "chosen and rejected begin differently, so there is no prompt."
        raise BadRow("rejected", message, "Both must begin with the same turns, and end with an answer.")
    if chosen != rejected and any(turn.role == "user" for turn in (*chosen[shared:], *rejected[shared:])):
        message = f"chosen and rejected differ from turn {shared + 1} on, and there are questions behind that."
        raise BadRow("rejected", message, "Both must ask the same: let only the last answer differ.")
    return Pair(chosen[:shared], chosen[shared:], rejected[shared:], ("chosen", "chosen", "rejected"))


def label_of(row: Row) -> bool:
    """KTO's label: true for a wanted answer."""
    value = row.get("label")
    known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    found = known.get(str(value).strip().lower()) if isinstance(value, bool | int | float | str) else None
    if found is None:
        wrong = f"true or false but a text, {value[:40]!r}" if isinstance(value, str) else None
        shown = f"it is not {wrong}." if wrong else mismatch(value, "true or false")
        raise BadRow("label", shown, "Write true for a wanted answer, else false.")
    return found


def plain_text(row: Row) -> str:
    value = row.get("text")
    if not isinstance(value, str):
        raise BadRow("text", mismatch(value, "a text"), "Write a text, or leave the row out.")
    if not value.strip():
        raise BadRow("text", "it is empty.", "Write a text, or leave the row out.")
    return value


def tools_of(row: Row) -> tuple[Tool, ...]:
    """The tools on offer, in a column of their own or, as OpenAI's preferences have them, beside the prompt."""
    asked = row.get("input")
    return offered_tools(row) or (offered_tools(asked, "input.") if isinstance(asked, dict) else ())


def _pair(row: Row, prompt: Turns, prompt_field: str, chosen: str, rejected: str) -> Pair:
    return Pair(prompt, _answers(row, chosen), _answers(row, rejected), (prompt_field, chosen, rejected))


def _is_whole(turns: Turns) -> bool:
    return bool(turns) and turns[0].role in ("system", "user")


def _alpaca_prompt(row: Row) -> Turns:
    instruction, given = _text(row, "instruction"), _optional_text(row, "input")
    asked = f"{instruction}\n\n{given}" if given.strip() else instruction
    system = _optional_text(row, "system")
    return (
        *((Message("system", system),) if system.strip() else ()),
        *_history(row.get("history")),
        Message("user", asked),
    )


def _history(value: Any) -> Turns:
    if value is None or value == "":
        return ()
    remedy = 'Write [["question", "answer"], ...].'
    if not isinstance(value, list):
        raise BadRow("history", mismatch(value, "a list"), remedy)
    turns: list[Message] = []
    for index, pair in enumerate(value):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise BadRow(f"history[{index}]", "it is not a question with its answer.", remedy)
        turns += user_and_assistant(pair[0], pair[1])
    return tuple(turns)


def _prompt(row: Row) -> Turns:
    value = row.get("prompt")
    if isinstance(value, str) and asks_in_transcript(value):
        turns = transcript_turns(value, "prompt")
    else:
        turns = _turns_or_text(value, "prompt", "user")
    return with_system(turns, _optional_text(row, "system"))


def _is_asked_in_text(row: Row) -> bool:
    prompt = row.get("prompt")
    return isinstance(prompt, str) and bool(prompt.strip()) and not written_turns(prompt)


def _answers(row: Row, field: str, asked: Turns | None = None) -> Turns:
    """The answer of a column. `asked`: the prompt where it is a text.

    A text answers a text, even one that holds turns as JSON, unless these repeat the prompt.
    """
    value = row.get(field)
    if asked is not None and isinstance(value, str):
        turns = parsed_turns(value, field) if written_turns(value) else ()
        questions = {turn.content.strip() for turn in asked if turn.role == "user"}
        if not (_is_whole(turns) and questions <= {turn.content.strip() for turn in turns}):
            return (Message("assistant", value),)
    return _turns_or_text(value, field, "assistant")


def _turns_or_text(value: Any, field: str, role: Role) -> Turns:
    """A text is the turn of `role`, unless it is turns as JSON."""
    if isinstance(value, str) and not written_turns(value):
        return (Message(role, value),)
    if not isinstance(value, str | list) and not (isinstance(value, dict) and is_turn(value)):
        raise BadRow(field, mismatch(value, "a text or turns"), "Write a text, or turns with role and content.")
    return parsed_turns(value, field)


def _text(row: Row, field: str) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        raise BadRow(field, mismatch(value, "a text"), "Write a text, or leave the row out.")
    return value


def _optional_text(row: Row, field: str) -> str:
    return "" if row.get(field) is None else _text(row, field)
