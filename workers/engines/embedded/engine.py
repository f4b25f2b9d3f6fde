"""The embedded engine, seen from the inference worker: starts `workers.engines.embedded.server` processes.

The order (model, port, key) goes down the process's stdin as one JSON line; status lines come up its stdout. stdin
stays open: when it closes, the worker is gone and the engine ends. One spare process is kept that has imported
everything and waits for its order, because the imports are nearly all of the time from order to readiness.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import IO, cast

from jobspecs.lifecycle import Reason
from workers.engines.interface import EngineFailure, EngineOrder, EngineState, Tokens

log = logging.getLogger(__name__)

#: The variables an engine gets from the worker's environment: none of them a secret.
PASSED_VARIABLES = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
)
SET_VARIABLES = {
    # Its order says which it may see.
    "CUDA_VISIBLE_DEVICES": "",
    # Keys and values grow by new tensors at each step. By default the C library keeps the old ones' places in its heap:
    # 16 answers of 2,048 tokens took SmolLM2-135M's engine to 4,117 MiB, 2,524 with places of their own. Eight of 1,000
    # took 54 s both ways.
    "MALLOC_MMAP_THRESHOLD_": str(256 << 10),
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONUNBUFFERED": "1",
}
LOG_TAIL_BYTES = 2000
#: A log beyond this is emptied: an engine may run for months, and only the end of its log is ever shown.
LOG_BYTES_MAX = 16 * 2**20
#: A status line is short; what is longer isn't one.
_STATUS_BYTES_MAX = 64 * 1024


class EmbeddedProcess:
    """One process of the embedded engine."""

    def __init__(self, logs_dir: Path) -> None:
        logs_dir.mkdir(parents=True, exist_ok=True)
        self._log_path = logs_dir / f"engine-{uuid.uuid4().hex}.log"
        environment = {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ} | SET_VARIABLES
        with self._log_path.open("ab") as log_file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "workers.engines.embedded.server", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                env=environment,
                start_new_session=True,
                bufsize=0,
            )
        self._orders = cast(IO[bytes], self._process.stdin)
        self._statuses = cast(IO[bytes], self._process.stdout)
        os.set_blocking(self._statuses.fileno(), False)
        self._unread = b""
        self._ready = False
        self._failure: EngineFailure | None = None
        self._tokens = Tokens()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, order: EngineOrder) -> None:
        """Gives it its order. Raises BrokenPipeError when the process is gone."""
        message = {
            "model": order.model,
            "task": order.task,
            "model_dir": str(order.model_dir),
            "digest": order.digest,
            "port": order.port,
            "key": order.key,
            "threads": order.threads,
            "base_dir": str(order.base_dir) if order.base_dir else None,
            "base_digest": order.base_digest,
            "memory_bytes": order.memory_bytes,
            "gpu_ids": order.gpu_ids,
        }
        self._orders.write(json.dumps(message).encode() + b"\n")

    def state(self) -> EngineState:
        exited = self._process.poll() is not None
        # Read after the poll: the last words of a process that has just ended are then in the pipe.
        self._read_statuses()
        if self._log_path.exists() and self._log_path.stat().st_size > LOG_BYTES_MAX:
            os.truncate(self._log_path, 0)
        if exited:
            return EngineState.exited
        return EngineState.ready if self._ready else EngineState.starting

    def failure(self) -> EngineFailure | None:
        return self._failure

    def tokens(self) -> Tokens:
        return self._tokens

    def terminate(self) -> None:
        # The process itself only; `poll` has reaped it or it still owns its pid, so no other process is hit.
        self._process.terminate()

    def kill(self) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ended in between
                os.killpg(self._process.pid, signal.SIGKILL)

    def exit_text(self) -> str:
        code = self._process.poll()
        if code is None:
            return ""
        if code < 0:
            name = signal.Signals(-code).name
            hint = "; out of memory is the usual cause" if -code == signal.SIGKILL else ""
            return f"was ended by {name}{hint}"
        return f"ended with exit code {code}"

    def log_tail(self) -> str:
        try:
            with self._log_path.open("rb") as stream:
                stream.seek(max(0, self._log_path.stat().st_size - LOG_TAIL_BYTES))
                text = stream.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)

    def wake_fd(self) -> int | None:
        return None if self._statuses.closed else self._statuses.fileno()

    def close(self) -> None:
        self.kill()
        self._process.wait()
        self._orders.close()
        self._statuses.close()
        self._log_path.unlink(missing_ok=True)

    def _read_statuses(self) -> None:
        if self._statuses.closed:
            return
        while chunk := self._statuses.read(4096):  # None: nothing there now; b"": it has closed its end
            self._unread += chunk
        if chunk == b"":
            self._statuses.close()
        *lines, self._unread = self._unread[-_STATUS_BYTES_MAX:].split(b"\n")
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            status = json.loads(line)
            if status["state"] == "ready":
                self._ready = True
            elif status["state"] == "failed":
                self._failure = EngineFailure(Reason(status["reason"]), str(status["message"]))
            elif status["state"] == "served":
                self._tokens = Tokens(int(status["prompt_tokens"]), int(status["generated_tokens"]))
        except (ValueError, KeyError, TypeError):
            # A library may print; only the worker would be harmed by taking it for a status.
            log.warning("engine %d wrote to its status pipe: %r", self.pid, line[:LOG_TAIL_BYTES])


class EmbeddedEngine:
    """Starts processes of the embedded engine and keeps one warm spare (about 400 MB of memory, no CPU)."""

    def __init__(self, logs_dir: Path) -> None:
        # Engines die with their worker; the logs of one that was killed are nobody's.
        for left in logs_dir.glob("engine-*.log"):
            left.unlink()
        self._logs_dir = logs_dir
        self._spare: EmbeddedProcess | None = None

    def start(self, order: EngineOrder) -> EmbeddedProcess:
        process, self._spare = self._spare, None
        if process is not None:
            try:
                process.send(order)
                return process
            except BrokenPipeError:
                log.warning("the spare engine %s: %s", process.exit_text(), process.log_tail())
                process.close()
        process = EmbeddedProcess(self._logs_dir)
        # A process that dies at once shows as `exited` to the caller, who counts it.
        with contextlib.suppress(BrokenPipeError):
            process.send(order)
        return process

    def keep_warm(self) -> None:
        if self._spare is not None and self._spare.state() is EngineState.exited:
            log.warning("the spare engine %s: %s", self._spare.exit_text(), self._spare.log_tail())
            self._spare.close()
            self._spare = None
        if self._spare is None:
            self._spare = EmbeddedProcess(self._logs_dir)

    def close(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None
