"""Keeps processes running: what died is started again, and so is what lives but no longer answers."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

logger = logging.getLogger(__name__)

BACKOFF_MAX_S = 30.0
#: A process that ran this long is restarted without having to wait for its earlier deaths.
STEADY_S = 60.0
#: Seconds without an answer after which a part is restarted: several times what it may wait for the database. A running
#: job goes on from its checkpoint.
PART_PATIENCE_S = 120.0
#: The same for a server that keeps data. A busy disk can hold one up for minutes, and a restart would make that worse.
SERVER_PATIENCE_S = 600.0
#: Seconds between two questions.
_ASK_EVERY_S = 5.0


@dataclass
class Watch:
    """Asks one process whether it answers. `patience_s` counts from the last answer and from each start.

    Silence is what questions found, not time that passed: while this process is frozen (`docker pause`, Ctrl-Z), nobody
    asks. Of the time between two questions at most half the patience counts, so that one question never ends a process.
    """

    name: str
    answers: Callable[[], bool]
    patience_s: float
    #: Its sign of life waits for this one: while that is silent, nothing follows from its own silence.
    needs: Watch | None = None
    clock: Callable[[], float] = time.monotonic
    _counted_at_s: float = field(init=False)
    _silent_s: float = field(init=False)
    #: The watcher asks while the main thread forgives.
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self.forgive()

    def ask(self) -> bool:
        """Whether it answers now. A question that fails in a way nobody thought of is no answer."""
        try:
            answered = self.answers()
        except Exception:
            logger.exception("cannot tell whether %s answers", self.name)
            answered = False
        if answered:
            self.forgive()
        else:
            self._count()
        return answered

    def forgive(self) -> None:
        """Begins anew to count."""
        with self._lock:
            self._counted_at_s, self._silent_s = self.clock(), 0.0

    def lost(self) -> bool:
        """Whether its silence is longer than the patience."""
        return self._silent_s > self.patience_s

    def _count(self) -> None:
        with self._lock:
            now_s = self.clock()
            self._silent_s += min(now_s - self._counted_at_s, self.patience_s / 2)
            self._counted_at_s = now_s


@dataclass
class SignOfLife:
    """A file that the main loop of a process touches. Its times are compared with each other only, not with a clock:
    neither a clock that is set nor a machine that slept makes a process look dead."""

    path: Path
    _seen_ns: int = 0

    def __call__(self) -> bool:
        """Whether it was touched since the last call."""
        try:
            changed_ns = self.path.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        changed, self._seen_ns = changed_ns != self._seen_ns, changed_ns
        return changed


class Watcher:
    """Asks all of them every few seconds, in a thread of its own, as a question may take seconds to fail."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = watches
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def look(self) -> None:
        """Asks each once."""
        silent = [watch for watch in self._watches if not watch.ask()]
        for watch in silent:
            if any(watch.needs is other for other in silent):
                watch.forgive()

    def _run(self) -> None:
        every_s = min([_ASK_EVERY_S, *(watch.patience_s / 4 for watch in self._watches)])
        while not self._stopped.wait(every_s):
            self.look()


@dataclass
class Supervised:
    """A process that is started again when it ends or no longer answers, after 1, 2, 4 ... 30 s."""

    name: str
    alive: Callable[[], bool]
    start: Callable[[], None]
    #: Ends it when `watch` has lost it.
    end: Callable[[], None] = lambda: None
    watch: Watch | None = None
    #: What else to say when it ended.
    hint: Callable[[], str] = lambda: ""
    clock: Callable[[], float] = time.monotonic
    _backoff_s: float = field(default=1.0, init=False)
    _started_at_s: float = field(init=False)
    _due_at_s: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._started_at_s = self.clock()

    def tend(self) -> None:
        """Looks at it once; restarts it when its time has come."""
        now_s = self.clock()
        if self._due_at_s is not None:
            if now_s >= self._due_at_s:
                self._due_at_s, self._started_at_s = None, now_s
                try:
                    self.start()
                except OSError as problem:  # no process or memory is free (EAGAIN, ENOMEM): the other parts go on
                    self._restart_later(now_s, f"could not be started ({problem})")
                    return
                if self.watch is not None:
                    self.watch.forgive()
        elif not self.alive():
            self._restart_later(now_s, "ended unexpectedly")
        elif self.watch is not None and self.watch.lost():
            logger.warning("%s has not answered for %g s: ending it", self.name, self.watch.patience_s)
            self.end()
            self._restart_later(now_s, "did not answer")

    def _restart_later(self, now_s: float, what: str) -> None:
        if now_s - self._started_at_s >= STEADY_S:
            self._backoff_s = 1.0
        logger.warning("%s %s; starting it again in %g s%s", self.name, what, self._backoff_s, self.hint())
        self._due_at_s = now_s + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, BACKOFF_MAX_S)


def fresh_sign(folder: Path, name: str) -> SignOfLife:
    """The file that the process of that name is to touch; one that an earlier process left is removed."""
    path = folder / f"{name}.alive"
    path.unlink(missing_ok=True)
    return SignOfLife(path)


def patience_s(default_s: float) -> float:
    """EIGENWERK_PATIENCE_S, in seconds, in place of the default for parts; servers are given five times that."""
    text = os.environ.get("EIGENWERK_PATIENCE_S")
    return float(text) * default_s / PART_PATIENCE_S if text else default_s
