"""Tokens and their log probabilities, as answers name them: the tokens of a text put together are the text."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from workers.engines.embedded.generation.answers import Finish, Piece, Step, Written
from workers.engines.embedded.generation.language_model import LanguageModel


@dataclass(frozen=True)
class Placed:
    """A token where it stands in the text."""

    piece: Piece
    #: Its part of the text, without what a stop string cut off.
    text: str
    #: Characters of the text before it.
    offset: int


class Placing:
    """Finds, step by step, the tokens of the text that is out; those of text that is held back wait with it."""

    def __init__(self) -> None:
        self._waiting: deque[Piece] = deque()
        #: Characters that are out, and those before the first token that waits.
        self._out, self._begin = 0, 0

    def take(self, step: Step) -> list[Placed]:
        """The tokens whose text is out with this step; all of them when it is the last one."""
        self._waiting.extend(step.pieces)
        self._out += len(step.text)
        placed = []
        while self._waiting:
            piece, end = self._waiting[0], self._begin + len(self._waiting[0].text)
            if end > self._out and step.end is None:
                break
            if step.end and step.end.reason is Finish.stop_string and self._begin >= self._out:
                # From here on it is the stop string.
                break
            placed.append(Placed(piece, piece.text[: self._out - self._begin], self._begin))
            self._waiting.popleft()
            self._begin = end
        return placed


def placed_in(written: Written, *, with_stop: bool = False) -> list[Placed]:
    """The tokens of a finished text, with the stop string or without it."""
    stop = (written.end.stop or "") if with_stop else ""
    return Placing().take(Step(written.pieces, written.text + stop, written.end))


class Named(NamedTuple):
    """A token as answers write it. `own`: its bytes."""

    token: int
    name: str
    logprob: float | None
    own: bytes


class Naming:
    """How answers write a model's tokens."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    def chosen(self, placed: Placed) -> Named:
        """The token itself: its name is its part of the text."""
        choice = placed.piece.choice
        own = placed.text.encode() if placed.piece.whole else self._model.token_bytes(choice.token)
        return Named(choice.token, placed.text, choice.logprob, own)

    def top(self, placed: Placed) -> list[Named]:
        """The most probable tokens, best first, each under a name of its own; the chosen one's is its text."""
        choice = placed.piece.choice
        taken, found = {placed.text}, []
        for (token, logprob), text in zip(choice.top, placed.piece.others, strict=True):
            if token == choice.token:
                found.append(self.chosen(placed))
                continue
            name, own = self._spelled(token, text)
            # Two tokens may stand for the same text; vLLM's clients know such names.
            name = f"token_id:{token}" if name in taken else name
            taken.add(name)
            found.append(Named(token, name, logprob, own))
        return found

    def _spelled(self, token: int, text: str | None) -> tuple[str, bytes]:
        """The name and the bytes of a token that was not chosen; `text`: what it would have added."""
        if self._model.is_special(token):
            name = self._model.token_text(token)
            return name, name.encode()
        if text is not None:
            return text, text.encode()
        own = self._model.token_bytes(token)
        # As OpenAI writes a token that is no text by itself.
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in own), own
