"""Micro-batching: texts of concurrent requests go through the model together, on one inference thread."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

Result = TypeVar("Result")

#: Texts that go through the model at once.
BATCH_TEXTS = 64
#: Texts that one request may have in a batch while others wait: a short request overtakes a long one.
SHARE_TEXTS = 16
#: Texts that may wait in all; beyond it requests are refused.
WAITING_TEXTS_MAX = 8192


class Overloaded(Exception):
    """Too many texts wait already. The same request may work in a moment."""


@dataclass(eq=False)
class _Request(Generic[Result]):
    texts: Sequence[str]
    future: Future[list[Result]] = field(default_factory=Future)
    results: list[Result] = field(default_factory=list)
    #: How many of its texts have been handed to the inference thread.
    taken: int = 0


@dataclass(frozen=True)
class _Part(Generic[Result]):
    request: _Request[Result]
    texts: Sequence[str]


class Batcher(Generic[Result]):
    """Runs `infer(texts) -> one result per text` on a thread of its own."""

    def __init__(self, infer: Callable[[Sequence[str]], Sequence[Result]]) -> None:
        self._infer = infer
        self._waiting: deque[_Request[Result]] = deque()
        self._waiting_texts = 0
        self._closed = False
        self._busy_since_s: float | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    async def submit(self, texts: Sequence[str]) -> list[Result]:
        """One result per text, in order. Raises Overloaded, or what `infer` raised for these texts."""
        request: _Request[Result] = _Request(texts)
        with self._changed:
            # One request alone is never too long: its size is limited elsewhere.
            if self._waiting_texts and self._waiting_texts + len(texts) > WAITING_TEXTS_MAX:
                raise Overloaded(f"{self._waiting_texts} texts are waiting already. Try again in a moment.")
            self._waiting.append(request)
            self._waiting_texts += len(texts)
            self._changed.notify()
        return await asyncio.wrap_future(request.future)

    def stuck_s(self) -> float:
        """For how many seconds the present batch has been running; infinite when the thread is dead."""
        if not self._thread.is_alive():
            return float("inf")
        since_s = self._busy_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def close(self) -> None:
        """Ends the thread after the present batch."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while parts := self._next_parts():
            self._busy_since_s = time.monotonic()
            self._serve(parts)
            self._busy_since_s = None

    def _next_parts(self) -> list[_Part[Result]]:
        """What goes into the next batch, in turn from all that wait; empty once closed."""
        parts: list[_Part[Result]] = []
        with self._changed:
            room = BATCH_TEXTS
            while room and not self._closed:
                if not self._waiting:
                    if parts:
                        break
                    self._changed.wait()
                    continue
                request = self._waiting.popleft()
                if request.future.cancelled():
                    self._waiting_texts -= len(request.texts) - request.taken
                    continue
                texts = request.texts[request.taken : request.taken + min(room, SHARE_TEXTS)]
                request.taken += len(texts)
                parts.append(_Part(request, texts))
                room -= len(texts)
                self._waiting_texts -= len(texts)
                if request.taken < len(request.texts):
                    self._waiting.append(request)
        return parts

    def _serve(self, parts: Sequence[_Part[Result]]) -> None:
        try:
            results = deque(self._infer([text for part in parts for text in part.texts]))
        except Exception:
            log.exception("a batch of %d parts failed; each is tried by itself", len(parts))
            for part in parts:
                self._serve_alone(part)
            return
        for part in parts:
            self._add(part.request, [results.popleft() for _ in part.texts])

    def _serve_alone(self, part: _Part[Result]) -> None:
        try:
            results = self._infer(part.texts)
        except Exception as error:
            self._fail(part.request, error)
        else:
            self._add(part.request, results)

    def _fail(self, request: _Request[Result], error: Exception) -> None:
        with self._changed:
            if request in self._waiting:
                self._waiting.remove(request)
                self._waiting_texts -= len(request.texts) - request.taken
        # Another part of it may have failed already, or its client has gone.
        if not request.future.done() and request.future.set_running_or_notify_cancel():
            request.future.set_exception(error)

    def _add(self, request: _Request[Result], results: Sequence[Result]) -> None:
        request.results.extend(results)
        if len(request.results) == len(request.texts) and request.future.set_running_or_notify_cancel():
            request.future.set_result(request.results)
