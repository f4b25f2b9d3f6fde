"""How many tokens an answer has cost, as far as its engine tells."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import httpx

from api.inference.limiting import count_tokens

#: Of OpenAI's `usage`. Within a text of the answer its quotation marks would be escaped.
_TOTAL = re.compile(rb'"total_tokens"\s*:\s*(\d+)')
_EVENT = re.compile(rb"^data: ?\{", re.MULTILINE)
#: Where an engine does not say how long a prompt was.
_BYTES_PER_TOKEN = 4


class TokenCount:
    """Of one answer of a language model, for the limits of who asked."""

    def __init__(self, answer: httpx.Response, body: Mapping[str, Any]) -> None:
        self._headers = answer.headers
        self._body = body
        self._total: int | None = None
        self._events = 0

    def whole(self, content: bytes) -> None:
        """Counts an answer that came at once: by its usage, else by TGI's headers, else by its length."""
        told = [self._headers.get(name, "") for name in ("x-prompt-tokens", "x-generated-tokens")]
        total = _last_total(content)
        if total is None and all(text.isdecimal() for text in told):
            total = sum(map(int, told))
        count_tokens(len(content) // _BYTES_PER_TOKEN + self._prompt_tokens() if total is None else total)

    def events(self, events: bytes) -> None:
        """Notes some whole events of a stream."""
        self._events += len(_EVENT.findall(events))
        total = _last_total(events)
        self._total = self._total if total is None else total

    def end(self) -> None:
        """Counts a stream, however it has ended: by its usage, else a token for each event."""
        count_tokens(self._events + self._prompt_tokens() if self._total is None else self._total)

    def _prompt_tokens(self) -> int:
        return len(json.dumps(self._body, ensure_ascii=False)) // _BYTES_PER_TOKEN


def _last_total(content: bytes) -> int | None:
    found = None
    for found in _TOTAL.finditer(content):  # noqa: B007 (the last one counts)
        pass
    return int(found[1]) if found is not None else None
