"""Tokens into text as they come: half a character waits for its other half, and what may be a stop string waits too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

#: Tokens of the prompt that the first new token is decoded with: whether it begins with a space depends on them.
_CONTEXT_TOKENS = 6
#: What decoders give for bytes that are no whole character yet.
_HALF = "\N{REPLACEMENT CHARACTER}"


class Growth(NamedTuple):
    """What a token adds to the text: nothing while it ends in half a character, which later ones add with theirs."""

    text: str
    #: Whether all of the text is this token's own, and none of the token is missing in it.
    whole: bool


class TextStream:
    """The text of one answer: `grow` tells what each token adds, `show` what of that is certain.

    `decode` maps token ids to text, without special tokens. `prompt`: what the text follows, without being part of it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], prompt: Sequence[int], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._tokens = list(prompt[-_CONTEXT_TOKENS:])
        #: Text before this token is out; tokens from `_begin` on are decoded together with the next ones.
        self._begin, self._done = 0, len(self._tokens)
        self._half = False
        self._stop = tuple(stop)
        self._held = ""
        #: The stop string that ended the text.
        self.stopped_by: str | None = None

    def grow(self, token: int) -> Growth:
        """What the token adds to the text."""
        self._tokens.append(token)
        text, half_before = self._added(self._tokens), self._half
        self._half = text.endswith(_HALF)
        if self._half or not text:
            return Growth("", not self._half and not half_before)
        self._begin, self._done = self._done, len(self._tokens)
        return Growth(text, not half_before)

    def would_grow(self, token: int) -> str | None:
        """What another token would add here; None when it would not be whole characters of its own."""
        text = self._added([*self._tokens, token])
        return None if self._half or text.endswith(_HALF) else text

    def finish(self) -> str:
        """Half characters that no token completes."""
        rest = self._added(self._tokens)
        self._begin = self._done = len(self._tokens)
        return rest

    def show(self, text: str) -> str:
        """The text that is certain once `text` has been added. Look at `stopped_by` afterwards."""
        text = self._held + text
        found = [(text.find(stop), stop) for stop in self._stop if stop in text]
        if found:
            at, self.stopped_by = min(found)
            self._held = ""
            return text[:at]
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def release(self) -> str:
        """What `show` held back, once nothing follows."""
        held, self._held = self._held, ""
        return held

    def _added(self, tokens: Sequence[int]) -> str:
        """The text of `tokens` behind what is done."""
        before, text = self._decode(tokens[self._begin : self._done]), self._decode(tokens[self._begin :])
        # A prompt of tokens may end in half a character, which the text completes.
        return text[len(before if text.startswith(before) else before.rstrip(_HALF)) :]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` may be the beginning of `stop`."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
