"""Turns that say whether they are learnt: OpenAI's `weight`, ShareGPT's `loss`, axolotl's `train` and their kin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from corpus.conversations.examples import Message
from corpus.conversations.problems import BadRow

#: The fields of a turn that say so.
FLAGS = ("weight", "loss", "train", "training", "trainable", "supervised", "loss_scale", "loss_weight")
#: Says of stretches of one turn whether they are learnt, which nothing here can honour.
_DETAILS = ("train_detail", "training_detail")
#: May say whether the turn is learnt, and nobody can tell which way round.
_UNCLEAR = ("mask", "masked", "loss_mask", "ignore", "learn", "no_loss", "train_on", "is_trained", "trained")
_KNOWN = {"true": True, "1": True, "1.0": True, "yes": True, "false": False, "0": False, "0.0": False, "no": False}


def flag_of(turn: Mapping[str, Any], field: str) -> bool | None:
    """Whether the turn says that it is learnt; None where it says nothing. Raises BadRow."""
    for name in _DETAILS:
        if turn.get(name) not in (None, []):
            message = "only parts of the turn are to be learnt, which can't be done."
            raise BadRow(f"{field}.{name}", message, "Cut the turn, or say of it as a whole with train: true or false.")
    for name in _UNCLEAR:
        if turn.get(name) is not None:
            message = "it may say whether the turn is learnt, and nothing here reads it."
            raise BadRow(f"{field}.{name}", message, "Write train: true or false instead, or remove it.")
    said = {name: _parsed(turn[name], f"{field}.{name}") for name in FLAGS if turn.get(name) is not None}
    if len(set(said.values())) > 1:
        names = " and ".join(f"{name} ({'learn' if learnt else 'do not learn'})" for name, learnt in said.items())
        raise BadRow(field, f"the turn's {names} contradict each other.", "Keep one of them.")
    return next(iter(said.values()), None)


def _parsed(value: Any, field: str) -> bool:
    found = _KNOWN.get(str(value).strip().lower()) if isinstance(value, bool | int | float | str) else None
    if found is None:
        name = field.rpartition(".")[2]
        message = f"{value!r} does not say whether the turn is learnt."
        raise BadRow(field, message, f"Write true (or 1) as {name} to train on the turn, false (or 0) not to.")
    return found


def with_flags(turns: Sequence[Message], flags: Sequence[bool | None], field: str) -> tuple[Message, ...]:
    """The turns with what they say: where one says that it is learnt, only those that do are. Raises BadRow."""
    for index, (turn, flag) in enumerate(zip(turns, flags, strict=True)):
        if flag and turn.role != "assistant":
            message = f"the turn is the {turn.role}'s and is to be learnt; only the assistant's can be."
            raise BadRow(f"{field}[{index}]", message, "Leave the flag out there, or write false.")
    silent = not any(flags)
    return tuple(
        replace(turn, supervised=silent if flag is None else flag) if turn.role == "assistant" else turn
        for turn, flag in zip(turns, flags, strict=True)
    )
