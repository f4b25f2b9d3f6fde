"""The process beside an engine of somebody else's: `python -m workers.engines.attendant PARENT_PID`.

It reads one order from stdin (`Order`, a JSON line), checks the model's files, starts the engine and asks after its
health; on stdout it says in JSON lines when the engine is ready, how many tokens have gone through it and what it has
in hand. Lines that follow on stdin are calls to the engine, answered on stdout. It ends with the engine, and the engine
with it: when stdin closes (the worker is gone), when the engine no longer answers, and at SIGTERM, once nothing is in
hand by the engine's own figures. No two engines treat answers in hand alike when they are told to end.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jobspecs.lifecycle import Reason
from storage.settings import LOG_FORMAT
from workers.daemon.process_control import descendants_of, die_with_parent
from workers.engines.interface import Measured
from workers.engines.prometheus import totals
from workers.engines.verification import check_files
from workers.run.context import RunFailed

log = logging.getLogger(__name__)

#: Exit codes, from sysexits.h. An engine that ends with the first can't serve this model, however often it is started.
EXIT_CANT_SERVE = 65
EXIT_HUNG = 70
#: Seconds between two looks while it starts, and while it serves.
_STARTING_S, _SERVING_S = 0.1, 2.0
#: And while it gives its last answers. What it has in hand is believed to be nothing at the second look.
_DRAINING_S, _IDLE_LOOKS = 0.2, 2
#: Seconds for one answer; SGLang's health takes up to 5.
_ANSWER_S = 8.0
#: Adapters are loaded and weights put away meanwhile.
_CALL_S = 120.0
#: An engine whose health has not been well for so long counts as hung.
STUCK_S = 60.0
#: Seconds that an engine gets to end by itself once the worker is gone.
_ORPHAN_GRACE_S = 5.0
_ANSWER_BYTES_MAX = 4 << 20
_TEXT_CHARS_MAX = 4000


@dataclass(frozen=True)
class Order:
    """What the attendant is told. Without `argv` it starts nothing: the engine runs elsewhere already."""

    argv: list[str]
    environment: dict[str, str] = field(repr=False)
    url: str
    key: str = field(repr=False)
    health_path: str
    metrics_path: str | None
    measured: Measured
    #: Folders of models, and their manifests' digests.
    models: list[tuple[str, str]]
    #: Seconds that answers in hand get at the end.
    drain_s: float


def read_order(line: bytes) -> Order:
    fields: dict[str, Any] = json.loads(line)
    models = [(str(folder), str(digest)) for folder, digest in fields.pop("models")]
    return Order(**{**fields, "measured": Measured(**fields["measured"]), "models": models})


class Statuses:
    """Says where the engine is. stdout is kept for this alone: what the engine prints goes to the log."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)

    def say(self, **status: Any) -> None:
        # Nobody may be there to read it any more: then the process ends anyway.
        with contextlib.suppress(BrokenPipeError):
            self._stream.write(json.dumps(status).encode() + b"\n")


class Attendant:
    """Starts the engine and looks after it until it has ended."""

    def __init__(self, order: Order, statuses: Statuses) -> None:
        self._order, self._statuses = order, statuses
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._well_at_s = time.monotonic()
        self._told: dict[str, Any] = {}
        self._unread = b""
        self.stopping = self._told_to_end = False
        self._drained_by_s, self._idle_looks = float("inf"), 0

    def run(self) -> int:
        """Returns the exit code."""
        signal.signal(signal.SIGTERM, lambda *_: self._drain())
        self._start()
        while (code := self._exit_code()) is None:
            if self._wait(_DRAINING_S if self.stopping else _SERVING_S if self._ready else _STARTING_S):
                return self._orphaned()
            if self.stopping:
                self._stop_when_idle()
            elif not self._look():
                log.error("the engine has not been well for %.0f s", STUCK_S)
                self._kill()
                return EXIT_HUNG
        self._kill()
        return code

    def _start(self) -> None:
        if self._order.argv:
            parent = os.getpid()
            # This process has one thread, so what runs between fork and exec is safe.
            self._process = subprocess.Popen(
                self._order.argv,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self._order.environment},
                preexec_fn=lambda: die_with_parent(parent),
            )

    def _exit_code(self) -> int | None:
        if self._process is None:
            return 0 if self.stopping else None
        return self._process.poll()

    def _drain(self) -> None:
        if not self.stopping:
            self.stopping, self._drained_by_s = True, time.monotonic() + self._order.drain_s

    def _stop_when_idle(self) -> None:
        """Tells the engine to end, once, when nothing is in hand any more or the time for it is over."""
        if self._told_to_end:
            return
        if self._ready and time.monotonic() < self._drained_by_s:
            self._idle_looks = 0 if self._is_busy() else self._idle_looks + 1
            if self._idle_looks < _IDLE_LOOKS:
                return
        self._stop()

    def _stop(self) -> None:
        self.stopping = self._told_to_end = True
        if self._process is not None:
            self._process.terminate()

    def _wait(self, seconds: float) -> bool:
        """Waits for a call, a while, or the engine's end; returns whether the worker is gone."""
        until_s, stopping = time.monotonic() + seconds, self.stopping
        while (left_s := until_s - time.monotonic()) > 0 and self._exit_code() is None:
            if self.stopping != stopping:
                return False
            if not select.select([0], [], [], min(left_s, 0.2))[0]:
                continue
            if not (piece := os.read(0, 65536)):
                return True
            *lines, self._unread = (self._unread + piece).split(b"\n")
            for line in lines:
                self._call(json.loads(line))
        return False

    def _look(self) -> bool:
        """False once it has not been well for too long."""
        now_s = time.monotonic()
        if self._asked(self._order.health_path) is not None:
            self._well_at_s = now_s
            if not self._ready:
                self._ready = True
                self._statuses.say(state="ready")
        if self._ready and self._order.metrics_path and (text := self._asked(self._order.metrics_path)):
            self._tell(totals(text))
        return not self._ready or now_s - self._well_at_s < STUCK_S

    def _is_busy(self) -> bool:
        """Whether it has something in hand; one that does not tell has nothing that could be waited for."""
        text = self._asked(self._order.metrics_path) if self._order.metrics_path else None
        if not text:
            return False
        figures, names = totals(text), self._order.measured
        self._tell(figures)
        return figures.get(names.running, 0) + figures.get(names.waiting, 0) > 0

    def _tell(self, figures: Mapping[str, float]) -> None:
        """Says what has changed since it was said last."""
        names = self._order.measured
        self._say_news(
            state="served",
            prompt_tokens=int(figures.get(names.prompt_tokens, 0)),
            generated_tokens=int(figures.get(names.generated_tokens, 0)),
        )
        self._say_news(
            state="busy",
            running=int(figures.get(names.running, 0)),
            waiting=int(figures.get(names.waiting, 0)),
            cache_share=figures.get(names.cache_share),
        )

    def _say_news(self, *, state: str, **figures: Any) -> None:
        if self._told.get(state) != figures:
            self._told[state] = figures
            self._statuses.say(state=state, **figures)

    def _call(self, call: Mapping[str, Any]) -> None:
        try:
            status, text = ask(self._order, call["method"], call["path"], call["body"], timeout_s=_CALL_S)
        except (OSError, http.client.HTTPException) as error:
            status, text = 503, f"{type(error).__name__}: {error}"
        self._statuses.say(state="answered", number=call["number"], status=status, text=text[:_TEXT_CHARS_MAX])

    def _asked(self, path: str) -> str | None:
        """What it says at `path`; None when it isn't well."""
        try:
            status, text = ask(self._order, "GET", path, timeout_s=_ANSWER_S)
        except (OSError, http.client.HTTPException):
            return None
        return text if status == 200 else None

    def _orphaned(self) -> int:
        """The worker is gone: the engine ends, by itself if it is quick."""
        self._stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._process is not None:
                self._process.wait(_ORPHAN_GRACE_S)
        self._kill()
        return 0

    def _kill(self) -> None:
        """Ends the engine and what it has started."""
        for pid in descendants_of(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()


def ask(order: Order, method: str, path: str, body: Any = None, *, timeout_s: float) -> tuple[int, str]:
    """One request to the engine: status and text. Redirects aren't followed. Raises OSError, HTTPException."""
    parts = urlsplit(order.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    headers = {"Authorization": f"Bearer {order.key}"} if order.key else {}
    content = None if body is None else json.dumps(body).encode()
    try:
        if content is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, f"{parts.path.rstrip('/')}{path}", content, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(_ANSWER_BYTES_MAX).decode(errors="replace")
    finally:
        connection.close()


def main(parent_pid: int) -> int:
    """Runs the process; returns its exit code."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    if os.getppid() != parent_pid:
        return 0
    statuses = Statuses()
    line = _first_line()
    if not line:
        return 0
    order = read_order(line)
    try:
        for folder, digest in order.models:
            check_files(Path(folder), digest)
    except RunFailed as error:
        statuses.say(state="failed", reason=error.reason.value, message=error.message)
        return EXIT_CANT_SERVE
    code = Attendant(order, statuses).run()
    if code == EXIT_CANT_SERVE:
        statuses.say(state="failed", reason=Reason.invalid_model.value, message=_last_line())
    if code < 0:
        # Its parent then reads how the engine ended.
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _first_line() -> bytes:
    """Byte by byte, so that what follows stays in the pipe."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return line


def _last_line() -> str:
    """The engine's last word in the log that it shares with this process."""
    try:
        lines = Path("/proc/self/fd/2").read_bytes()[-4000:].decode(errors="replace").split("\n")
    except OSError:
        lines = []
    return next((line.strip() for line in reversed(lines) if line.strip()), "The engine can't serve this model.")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
