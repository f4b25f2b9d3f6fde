"""Reads what a child writes: events from one pipe, log lines from the other."""

from __future__ import annotations

import logging
import os
import selectors
import threading
import time
from collections.abc import Callable

from pydantic import ValidationError

from jobspecs.events import CHILD_EVENT, LOG_LINE_CHARS_MAX, ChildEvent, LogEvent
from workers.process.zygote_client import ChildProcess

log = logging.getLogger(__name__)

#: Log lines per second that are kept on average; this many seconds' worth may come at once.
LOG_LINES_PER_S = 50.0
LOG_BURST_S = 10.0
#: A line without an end is cut here, so that a child can't fill the worker's memory.
_LINE_BYTES_MAX = 1 << 20
_READ_BYTES = 1 << 16
_CUT_MARK = " … (cut)"


class LineSplitter:
    """Makes lines of arbitrary pieces. A carriage return ends a line too: progress bars are drawn with it."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        *lines, rest = (self._rest + piece).replace(b"\r", b"\n").split(b"\n")
        if len(rest) > _LINE_BYTES_MAX:
            lines.append(rest)
            rest = b""
        self._rest = rest
        return [line for line in lines if line]

    def finish(self) -> list[bytes]:
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


class LogLimiter:
    """Lets a flood of log lines through at a bounded rate, and says how many it held back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._allowance = LOG_LINES_PER_S * LOG_BURST_S
        self._at = clock()
        self._dropped = 0

    def admit(self, message: str) -> list[LogEvent]:
        now = self._clock()
        self._allowance = min(LOG_LINES_PER_S * LOG_BURST_S, self._allowance + (now - self._at) * LOG_LINES_PER_S)
        self._at = now
        if self._allowance < 1:
            self._dropped += 1
            return []
        self._allowance -= 1
        return [*self.finish(), LogEvent(message=message)]

    def finish(self) -> list[LogEvent]:
        dropped, self._dropped = self._dropped, 0
        if not dropped:
            return []
        return [LogEvent(level="warning", message=f"{dropped} log lines were dropped: the job writes too many.")]


def printable(line: bytes) -> str:
    """A line of a log as harmless text: control characters escaped, at most LOG_LINE_CHARS_MAX characters."""
    text = line.decode("utf-8", "backslashreplace")
    text = "".join(
        character if character.isprintable() or character == "\t" else repr(character)[1:-1] for character in text
    )
    if len(text) > LOG_LINE_CHARS_MAX:
        text = text[: LOG_LINE_CHARS_MAX - len(_CUT_MARK)] + _CUT_MARK
    return text


class OutputReader:
    """A thread that turns both pipes into events until the child and all its kin have closed them."""

    def __init__(self, child: ChildProcess, on_event: Callable[[ChildEvent], None]) -> None:
        self._child = child
        self._on_event = on_event
        self._limiter = LogLimiter()
        self._thread = threading.Thread(target=self._run, name="child-output", daemon=True)
        self._thread.start()

    def finish(self, timeout_s: float) -> None:
        """Waits until everything was read; call it once the child has exited."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.warning("a process that left the group of child %s still holds its pipes", self._child.pid)

    def _run(self) -> None:
        splitters = {self._child.event_fd: LineSplitter(), self._child.log_fd: LineSplitter()}
        with selectors.DefaultSelector() as selector:
            for descriptor in splitters:
                selector.register(descriptor, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    piece = os.read(key.fd, _READ_BYTES)
                    splitter = splitters[key.fd]
                    self._take(key.fd, splitter.feed(piece) if piece else splitter.finish())
                    if not piece:
                        selector.unregister(key.fd)
                        os.close(key.fd)
        for event in self._limiter.finish():
            self._on_event(event)

    def _take(self, descriptor: int, lines: list[bytes]) -> None:
        for line in lines:
            if descriptor == self._child.event_fd:
                self._on_event(self._event(line))
            else:
                for event in self._limiter.admit(printable(line)):
                    self._on_event(event)

    def _event(self, line: bytes) -> ChildEvent:
        try:
            return CHILD_EVENT.validate_json(line)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]["msg"]
            text = f"The child wrote a malformed event ({problem}): {printable(line)}"
            return LogEvent(level="warning", message=text[:LOG_LINE_CHARS_MAX])
