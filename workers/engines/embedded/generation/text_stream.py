"""Tokens into text as they come: half a character waits for its other half, and what may be a stop string waits too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

#: Tokens of the prompt that the first new token is decoded with: whether it begins with a space depends on them.
_CONTEXT_TOKENS = 6
#: What decoders give for bytes that are no whole character yet.
_HALF = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """The text of one answer. `decode` maps token ids to text, without special tokens."""

    def __init__(self, decode: Callable[[Sequence[int]], str], prompt: Sequence[int], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._tokens = list(prompt[-_CONTEXT_TOKENS:])
        #: Text before this token is out; tokens from `_begin` on are decoded together with the next ones.
        self._begin, self._done = 0, len(self._tokens)
        self._stop = tuple(stop)
        self._held = ""
        #: The stop string that ended the text.
        self.stopped_by: str | None = None

    def add(self, token: int) -> str:
        """The text that is certain now. Look at `stopped_by` afterwards."""
        self._tokens.append(token)
        before = self._decode(self._tokens[self._begin : self._done])
        text = self._decode(self._tokens[self._begin :])
        if len(text) <= len(before) or text.endswith(_HALF):
            return ""
        self._begin, self._done = self._done, len(self._tokens)
        return self._released(self._held + text[len(before) :])

    def end(self) -> str:
        """What was held back, once no token follows."""
        before = self._decode(self._tokens[self._begin : self._done])
        rest = self._held + self._decode(self._tokens[self._begin :])[len(before) :]
        self._begin = self._done = len(self._tokens)
        self._held = ""
        return rest

    def _released(self, text: str) -> str:
        found = [(text.find(stop), stop) for stop in self._stop if stop in text]
        if found:
            at, self.stopped_by = min(found)
            self._held = ""
            return text[:at]
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` may be the beginning of `stop`."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
