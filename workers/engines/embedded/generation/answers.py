"""Answers of a language model: one that grows, step by step from the inference thread, and one that is finished."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from enum import StrEnum

from workers.engines.embedded.generation.sampling import Choice


class Finish(StrEnum):
    """Why an answer ended."""

    length = "length"
    end_token = "end_token"  # noqa: S105  (a token of text)
    stop_string = "stop_string"


@dataclass(frozen=True)
class End:
    """The account of a finished answer."""

    reason: Finish
    #: The stop string that ended it; it is not part of the text.
    stop: str | None
    prompt_tokens: int
    #: The token that ended the answer counts.
    new_tokens: int
    seed: int


@dataclass(frozen=True)
class Piece:
    """A token and its part of the text: the pieces of an answer make up its text, and what a stop string cut off."""

    choice: Choice
    #: Nothing for special tokens, and for those that end within a character: the one that completes it has all of it.
    text: str
    #: Whether the text is all of the token, and the token's alone.
    whole: bool = True
    #: What each of `choice.top` would have added to the text; None: no whole characters.
    others: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class Step:
    """One token more, or several of a prompt that is part of the text.

    `text` is what can be shown now: it may lag behind the tokens, or be empty.
    """

    pieces: tuple[Piece, ...]
    text: str
    end: End | None = None


class Answer:
    """An answer that is being generated: an asynchronous iterator over its steps. Cancel it when nobody listens."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._steps: asyncio.Queue[Step | Exception] = asyncio.Queue()
        self._ended = False
        self.cancelled = False

    def cancel(self) -> None:
        """The engine drops it before its next step. Harmless when it has ended."""
        self.cancelled = True

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> Step:
        if self._ended:
            raise StopAsyncIteration
        step = await self._steps.get()
        if isinstance(step, Exception):
            self._ended = True
            raise step
        self._ended = step.end is not None
        return step

    def put(self, step: Step | Exception) -> None:
        """Called by the inference thread."""
        try:
            self._loop.call_soon_threadsafe(self._steps.put_nowait, step)
        except RuntimeError:
            # The loop is closed: the process ends, and nobody listens any more.
            self.cancelled = True


class PromptAlone:
    """The steps of an answer of one token without that token: the prompt has been read, and nothing is written."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def cancel(self) -> None:
        self._answer.cancel()

    def __aiter__(self) -> PromptAlone:
        return self

    async def __anext__(self) -> Step:
        step = await anext(self._answer)
        if step.end is None:
            return step
        return Step((), "", replace(step.end, reason=Finish.length, stop=None, new_tokens=0))


@dataclass(frozen=True)
class Written:
    """A finished answer. `text` does not hold the stop string; the last of `pieces` may go on into it."""

    text: str
    pieces: tuple[Piece, ...]
    end: End

    @property
    def choices(self) -> tuple[Choice, ...]:
        return tuple(piece.choice for piece in self.pieces)

    @property
    def mean_logprob(self) -> float:
        """Of the tokens that have one, nats: by which the best of several answers is told."""
        found = [choice.logprob for choice in self.choices if choice.logprob is not None]
        return sum(found) / len(found) if found else 0.0


async def whole(answer: Answer | PromptAlone) -> Written:
    """The answer once it has ended; it is cancelled when the caller is."""
    texts: list[str] = []
    pieces: list[Piece] = []
    try:
        async for step in answer:
            texts.append(step.text)
            pieces += step.pieces
            if step.end is not None:
                return Written("".join(texts), tuple(pieces), step.end)
    finally:
        answer.cancel()
    raise RuntimeError("the answer stopped without an end")
