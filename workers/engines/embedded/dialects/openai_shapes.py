"""How OpenAI writes answers: a chat's and a completion's, whole and in chunks."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from workers.engines.embedded.dialects.logprobs import Named, Naming, Placed, placed_in
from workers.engines.embedded.generation.answers import Finish, Step, Written
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.engines.embedded.generation.tool_calls import CallReader


class Shape:
    """How one kind of answer is written down."""

    prefix, object_name, chunk_name = "", "", ""

    def __init__(self, name: str, fingerprint: str, model: LanguageModel, logprobs: bool) -> None:
        self.naming, self.logprobs = Naming(model), logprobs
        self._head = {
            "id": f"{self.prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": name,
            "system_fingerprint": fingerprint,
        }

    def document(self, choices: list[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
        return {"object": self.object_name, **self._head, "choices": choices, "usage": usage}

    def chunk(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {"object": self.chunk_name, **self._head, "choices": choices, **more}

    def opening(self) -> list[dict[str, Any]]:
        """Chunks before the first token."""
        return []

    def choice(self, index: int, written: Written) -> dict[str, Any]:
        raise NotImplementedError

    def deltas(self, step: Step, placed: Sequence[Placed]) -> list[dict[str, Any]]:
        """The choices of the chunks that a step makes."""
        return [self.delta(step, placed)]

    def delta(self, step: Step, placed: Sequence[Placed]) -> dict[str, Any]:
        """A chunk's choice; `placed`: the tokens of its text."""
        raise NotImplementedError


class ChatShape(Shape):
    prefix, object_name, chunk_name = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def opening(self) -> list[dict[str, Any]]:
        first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        return [self.chunk([first])]

    def __init__(
        self, name: str, fingerprint: str, model: LanguageModel, logprobs: bool, reader: CallReader | None
    ) -> None:
        """`reader`: tells calls from text, where tools are on offer."""
        super().__init__(name, fingerprint, model, logprobs)
        self._reader = reader

    def choice(self, index: int, written: Written) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": written.text, "refusal": None}
        finish = _finish_reason(written.end.reason)
        if self._reader is not None:
            reader = self._reader.anew()
            shown = reader.show(written.text)
            _, calls = reader.finish()
            if calls:
                called = {"content": shown.strip() or None, "tool_calls": [call.document() for call in calls]}
                message, finish = {**message, **called}, "tool_calls"
        return {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(placed_in(written)),
            "finish_reason": finish,
        }

    def deltas(self, step: Step, placed: Sequence[Placed]) -> list[dict[str, Any]]:
        """Text that may be a call waits until it is known; calls come whole, before the chunk that ends the answer."""
        if self._reader is None:
            return [self.delta(step, placed)]
        text = self._reader.show(step.text)
        if step.end is None:
            return [self.delta(replace(step, text=text), placed)]
        rest, calls = self._reader.finish()
        last = self.delta(replace(step, text=text + rest), placed)
        if not calls:
            return [last]
        told = [{"tool_calls": [{"index": number, **call.document()}]} for number, call in enumerate(calls)]
        plain = {"index": 0, "logprobs": None, "finish_reason": None}
        return [*({**plain, "delta": delta} for delta in told), {**last, "finish_reason": "tool_calls"}]

    def delta(self, step: Step, placed: Sequence[Placed]) -> dict[str, Any]:
        return {
            "index": 0,
            "delta": {"content": step.text} if step.text else {},
            "logprobs": self._logprobs(placed),
            "finish_reason": _finish_reason(step.end.reason) if step.end else None,
        }

    def _logprobs(self, placed: Sequence[Placed]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        return {
            "content": [
                {**_token(self.naming.chosen(one)), "top_logprobs": [_token(other) for other in self.naming.top(one)]}
                for one in placed
            ],
            "refusal": None,
        }


class CompletionShape(Shape):
    prefix, object_name, chunk_name = "cmpl", "text_completion", "text_completion"

    def choice(self, index: int, written: Written) -> dict[str, Any]:
        return {
            "index": index,
            "text": written.text,
            "logprobs": self._logprobs(placed_in(written)),
            "finish_reason": _finish_reason(written.end.reason),
        }

    def delta(self, step: Step, placed: Sequence[Placed]) -> dict[str, Any]:
        return {
            "index": 0,
            "text": step.text,
            "logprobs": self._logprobs(placed),
            "finish_reason": _finish_reason(step.end.reason) if step.end else None,
        }

    def _logprobs(self, placed: Sequence[Placed]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        return {
            "tokens": [one.text for one in placed],
            "token_logprobs": [one.piece.choice.logprob for one in placed],
            "top_logprobs": [self._top(one) for one in placed],
            "text_offset": [one.offset for one in placed],
        }

    def _top(self, placed: Placed) -> dict[str, float | None] | None:
        """Name -> log probability of the best tokens, and of the chosen one where it is none of them."""
        chosen = self.naming.chosen(placed)
        if chosen.logprob is None:
            return None
        return {named.name: named.logprob for named in self.naming.top(placed)} | {chosen.name: chosen.logprob}


def _token(named: Named) -> dict[str, Any]:
    return {"token": named.name, "logprob": named.logprob, "bytes": list(named.own)}


def _finish_reason(reason: Finish) -> str:
    return "length" if reason is Finish.length else "stop"
