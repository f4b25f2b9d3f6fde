"""Micro-batching: what concurrent requests send goes through the model together, on one inference thread."""

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

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Items that go through the model at once.
BATCH_ITEMS = 64
#: Items that one request may have in a batch while others wait: a short request overtakes a long one.
SHARE_ITEMS = 16
#: Items that may wait in all; beyond it requests are refused.
WAITING_ITEMS_MAX = 8192


class Overloaded(Exception):
    """Too much waits already. The same request may work in a moment."""


def as_exception(error: BaseException) -> Exception:
    """What a model's code has raised, as an answer can carry it.

    A tokenizer whose pattern gives up panics, and pyo3's PanicException is no Exception: it would end the thread.
    """
    return error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")


@dataclass(eq=False)
class _Request(Generic[Item, Result]):
    items: Sequence[Item]
    future: Future[list[Result]] = field(default_factory=Future)
    results: list[Result] = field(default_factory=list)
    #: How many of its texts have been handed to the inference thread.
    taken: int = 0


@dataclass(frozen=True)
class _Part(Generic[Item, Result]):
    request: _Request[Item, Result]
    items: Sequence[Item]


class Batcher(Generic[Item, Result]):
    """Runs `infer(items) -> one result per item` on a thread of its own."""

    def __init__(self, infer: Callable[[Sequence[Item]], Sequence[Result]]) -> None:
        self._infer = infer
        self._waiting: deque[_Request[Item, Result]] = deque()
        self._waiting_items = 0
        self._closed = False
        self._busy_since_s: float | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    async def submit(self, items: Sequence[Item]) -> list[Result]:
        """One result per item, in order. Raises Overloaded, or what `infer` raised for these items."""
        request: _Request[Item, Result] = _Request(items)
        with self._changed:
            # One request alone is never too long: its size is limited elsewhere.
            if self._waiting_items and self._waiting_items + len(items) > WAITING_ITEMS_MAX:
                raise Overloaded(f"{self._waiting_items} texts are waiting already. Try again in a moment.")
            self._waiting.append(request)
            self._waiting_items += len(items)
            self._changed.notify()
        return await asyncio.wrap_future(request.future)

    def stuck_s(self) -> float:
        """For how many seconds the present batch has shown no progress; infinite when the thread is dead."""
        if not self._thread.is_alive():
            return float("inf")
        since_s = self._busy_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def note_progress(self) -> None:
        """`infer` may call it within a batch: one that goes on is not stuck, however long it takes."""
        self._busy_since_s = time.monotonic()

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

    def _next_parts(self) -> list[_Part[Item, Result]]:
        """What goes into the next batch, in turn from all that wait; empty once closed."""
        parts: list[_Part[Item, Result]] = []
        with self._changed:
            room = BATCH_ITEMS
            while room and not self._closed:
                if not self._waiting:
                    if parts:
                        break
                    self._changed.wait()
                    continue
                request = self._waiting.popleft()
                if request.future.cancelled():
                    self._waiting_items -= len(request.items) - request.taken
                    continue
                items = request.items[request.taken : request.taken + min(room, SHARE_ITEMS)]
                request.taken += len(items)
                parts.append(_Part(request, items))
                room -= len(items)
                self._waiting_items -= len(items)
                if request.taken < len(request.items):
                    self._waiting.append(request)
        return parts

    def _serve(self, parts: Sequence[_Part[Item, Result]]) -> None:
        try:
            results = deque(self._infer([item for part in parts for item in part.items]))
        except BaseException:
            log.exception("a batch of %d parts failed; each is tried by itself", len(parts))
            for part in parts:
                self._serve_alone(part)
            return
        for part in parts:
            self._add(part.request, [results.popleft() for _ in part.items])

    def _serve_alone(self, part: _Part[Item, Result]) -> None:
        try:
            results = self._infer(part.items)
        except BaseException as error:
            self._fail(part.request, as_exception(error))
        else:
            self._add(part.request, results)

    def _fail(self, request: _Request[Item, Result], error: Exception) -> None:
        with self._changed:
            if request in self._waiting:
                self._waiting.remove(request)
                self._waiting_items -= len(request.items) - request.taken
        # Another part of it may have failed already, or its client has gone.
        if not request.future.done() and request.future.set_running_or_notify_cancel():
            request.future.set_exception(error)

    def _add(self, request: _Request[Item, Result], results: Sequence[Result]) -> None:
        request.results.extend(results)
        if len(request.results) == len(request.items) and request.future.set_running_or_notify_cancel():
            request.future.set_result(request.results)
