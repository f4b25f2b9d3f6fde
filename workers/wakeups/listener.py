"""Runs the process that receives wake-ups (`wake`), replaces it when it dies, and passes on what it hears."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

#: Seconds before a dead process is replaced: rising from the first to the last.
_RESTART_FIRST_S = 1.0
_RESTART_MAX_S = 30.0
#: It holds nothing that could be lost, and a warm stop of Celery can wait for Redis for long: it is killed soon.
_STOP_S = 1.0


class HintListener:
    """A thread that calls `on_hint` for each wake-up. Hints may be lost, doubled or late: the worker polls as well."""

    def __init__(self, host: str, redis_url: str, on_hint: Callable[[], None]) -> None:
        self._host = host
        self._redis_url = redis_url
        self._on_hint = on_hint
        self._stopped = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        # The process dies with the thread that started it: this one lives as long as the worker.
        self._thread = threading.Thread(target=self._run, name="hints", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        wait_s = _RESTART_FIRST_S
        while not self._stopped.is_set():
            heard = self._listen()
            if self._stopped.is_set():
                return
            wait_s = _RESTART_FIRST_S if heard else min(2 * wait_s, _RESTART_MAX_S)
            log.warning("the receiver of wake-ups ended; a new one starts in %.0f s", wait_s)
            self._stopped.wait(wait_s)

    def _listen(self) -> int:
        """Runs one process to its end; returns how many hints it brought."""
        read_end, write_end = os.pipe()
        arguments = ["--host", self._host, "--pipe-fd", str(write_end), "--parent-pid", str(os.getpid())]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workers.wakeups.wake", *arguments],
            env={name: value for name, value in os.environ.items() if not name.startswith("EIGENWERK_")}
            | {"EIGENWERK_REDIS_URL": self._redis_url},
            pass_fds=[write_end],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(write_end)
        heard = 0
        with os.fdopen(read_end, "rb") as pipe:
            for _ in pipe:
                heard += 1
                self._on_hint()
        self._process.wait()
        return heard
