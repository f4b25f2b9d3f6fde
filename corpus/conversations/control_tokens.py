"""Control tokens, such as `<|im_end|>`, that stand in people's texts: they must not end turns or begin others.

A template writes texts and control tokens into one string, in which nobody could tell them apart. So those in texts are
marked before it is written, and their tokens are replaced by those of their letters. Trainings, checks, previews and
served chats all do it by this.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from tokenizers import Tokenizer

#: Stands in front of a control token that is text. One that people wrote is followed by the second: else theirs,
#: at the end of a text, would turn the template's own token behind it into letters.
_MARK, _OWN = "\ue0f6", "\ue0f7"


class ControlTokens:
    """Those of one tokenizer. Its methods are for one thread at a time."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        special = {
            number: token.content for number, token in tokenizer.get_added_tokens_decoder().items() if token.special
        }
        self._ids = frozenset(special)
        #: A regular expression of all of them, the longest first; empty where there are none.
        self.pattern = "|".join(re.escape(token) for token in sorted(special.values(), key=len, reverse=True))
        self._token = re.compile(self.pattern) if special else None

    def found(self, value: Any) -> list[str]:
        """Those in a text, or in any text of a list or an object, each once."""
        if self._token is None:
            return []
        if isinstance(value, str):
            return list(dict.fromkeys(self._token.findall(value)))
        parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
        return list(dict.fromkeys(token for part in parts for token in self.found(part)))

    def marked(self, value: Any) -> Any:
        """The same text, list or object with every control token in its texts marked."""
        if self._token is None:
            return value
        if isinstance(value, str):
            return self._token.sub(lambda token: _MARK + token.group(), value.replace(_MARK, _MARK + _OWN))
        if isinstance(value, Mapping):
            return {key: self.marked(part) for key, part in value.items()}
        return [self.marked(part) for part in value] if isinstance(value, list | tuple) else value

    def unmarked(self, text: str) -> tuple[str, frozenset[int]]:
        """The text without marks, and where in it control tokens begin that are text, in characters."""
        if self._token is None or _MARK not in text:
            return text, frozenset()
        pieces: list[str] = []
        places: set[int] = set()
        chars = end = 0
        for mark in re.finditer(f"{_MARK}(?:{_OWN}|(?={self.pattern}))", text):
            piece = text[end : mark.start()] + (_MARK if mark.group() != _MARK else "")
            pieces.append(piece)
            chars, end = chars + len(piece), mark.end()
            if mark.group() == _MARK:
                places.add(chars)
        return "".join((*pieces, text[end:])), frozenset(places)

    def places(self, text: str) -> frozenset[int]:
        """Where control tokens begin in a text, in characters."""
        return frozenset(token.start() for token in self._token.finditer(text)) if self._token else frozenset()

    def encoded(
        self, text: str, as_text: Collection[int], *, add_special_tokens: bool = False
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids and their (start, end) in the text; control tokens that begin at `as_text` as their letters."""
        encoding = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        if not as_text:
            return list(encoding.ids), list(encoding.offsets)
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token in self._ids and any(start <= place < end for place in as_text):
                letters = self._letters(text[start:end])
                ids += letters
                offsets += [(start, end)] * len(letters)
            else:
                ids.append(token)
                offsets.append((start, end))
        return ids, offsets

    def _letters(self, text: str) -> list[int]:
        self._tokenizer.encode_special_tokens = True
        try:
            return list(self._tokenizer.encode(text, add_special_tokens=False).ids)
        finally:
            self._tokenizer.encode_special_tokens = False
