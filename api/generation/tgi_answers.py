"""Completions of OpenAI's shape as text-generation-inference writes answers: at once, and as an event per token."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

log = logging.getLogger(__name__)

#: OpenAI's finish_reason -> TGI's; a stop string shows in the tokens only.
_LENGTH, _END, _STOP = "length", "eos_token", "stop_sequence"

Token = dict[str, Any]


class Text:
    """An answer as far as it has come. Tokens have their ids where the engine told them."""

    def __init__(self, prefix: str, *, details: bool, stops: Sequence[str], seed: int | None, top: int) -> None:
        """`prefix`: what the whole text begins with; `top`: how many tokens are told beside each."""
        self._prefix, self._details, self._stops, self._seed, self._top = prefix, details, stops, seed, top
        self._text = ""
        self._tokens: list[Token] = []
        self._tops: list[list[Token]] = []
        self._finish: str | None = None
        self._usage: Mapping[str, Any] = {}

    def take(self, document: Mapping[str, Any]) -> Iterator[tuple[Token, list[Token]]]:
        """Keeps what a completion or a chunk of one says; its tokens, each with the most probable ones.

        Raises LookupError, TypeError, ValueError or AttributeError when it is none.
        """
        self._usage = document.get("usage") or self._usage
        found: list[tuple[Token, list[Token]]] = []
        for choice in document["choices"]:
            text = choice["text"]
            if not isinstance(text, str):
                raise TypeError("a choice has no text")
            self._text += text
            self._finish = choice.get("finish_reason") or self._finish
            told = (choice.get("logprobs") or {}).get("content") or ()
            found += [
                (_token(one), [_token(other) for other in (one.get("top_logprobs") or ())[: self._top]]) for one in told
            ]
            if text and not told:
                found.append(({"id": None, "text": text, "logprob": None, "special": False}, []))
        self._tokens += [token for token, _ in found]
        self._tops += [top for _, top in found]
        return iter(found)

    def document(self) -> dict[str, Any]:
        """The whole answer."""
        whole = {"generated_text": self.whole}
        if not self._details:
            return whole
        tops = {"top_tokens": self._tops} if self._top else {}
        return {**whole, "details": {**self.account(), "prefill": [], "tokens": self._tokens, **tops}}

    def event(self, number: int, token: Token, top: list[Token], *, last: bool) -> dict[str, Any]:
        """A token of the stream; the `last` one has the whole text, and the account where details are asked for."""
        return {
            "index": number,
            "token": token,
            **({"top_tokens": top} if self._top else {}),
            "generated_text": self.whole if last else None,
            "details": self.account() if last and self._details else None,
        }

    @property
    def whole(self) -> str:
        """With the stop string, which TGI leaves in."""
        return self._prefix + self._text + (self._stop or "")

    def account(self) -> dict[str, Any]:
        generated = self._usage.get("completion_tokens", len(self._tokens))
        reason = _LENGTH if self._finish == "length" else _STOP if self._stop else _END
        told = {"finish_reason": reason, "generated_tokens": generated, "seed": self._seed}
        read = self._usage.get("prompt_tokens")
        return {**told, "input_length": read} if read is not None else told

    @property
    def _stop(self) -> str | None:
        """The stop string that ended it, as far as tokens tell."""
        if self._finish != "stop" or not self._stops:
            return None
        written = "".join(token["text"] for token in self._tokens)
        return next((stop for stop in self._stops if written.startswith(self._text + stop)), None)


async def events_of(chunks: AsyncIterator[Mapping[str, Any]], text: Text) -> AsyncGenerator[bytes, None]:
    """Server-sent events. Each waits for the next one, or the end: only the last has the whole text."""
    waiting: tuple[Token, list[Token]] = ({"id": None, "text": "", "logprob": None, "special": True}, [])
    number = 0
    async for chunk in chunks:
        if "error" in chunk:
            error = chunk["error"]
            message = str(error.get("message") if isinstance(error, Mapping) else error)
            yield _event({"error": message, "error_type": "generation"})
            return
        try:
            tokens = text.take(chunk)
        except (LookupError, TypeError, AttributeError, ValueError):
            log.exception("an engine's event can't be read")
            yield _event({"error": "The engine's answer can't be read. Ask again.", "error_type": "generation"})
            return
        for found in tokens:
            if number:
                yield _event(text.event(number, *waiting, last=False))
            waiting, number = found, number + 1
    yield _event(text.event(max(number, 1), *waiting, last=True))


def _token(told: Mapping[str, Any]) -> Token:
    return {"id": told.get("id"), "text": told["token"], "logprob": told["logprob"], "special": False}


def _event(document: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(document, ensure_ascii=False)}\n\n".encode()
