"""A process that serves, as the inference worker sees it: orders go down its stdin, statuses come up its stdout.

Both are JSON lines. stdin stays open: when it closes, the worker is gone and the process ends. stderr is its log.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import signal
import subprocess
import uuid
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, cast

from jobspecs.lifecycle import Reason
from workers.daemon.process_control import descendants_of, signal_group
from workers.engines.interface import EngineFailure, EngineState, Load, ServedAdapter, Tokens

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
LOG_TAIL_BYTES = 2000
#: A log beyond this is emptied: an engine may run for months, and only the end of its log is ever shown.
LOG_BYTES_MAX = 16 * 2**20
#: A status line is short; what is longer isn't one.
_STATUS_BYTES_MAX = 64 * 1024


class ServingChild:
    """One process. `variables` go to it beside PASSED_VARIABLES."""

    def __init__(self, logs_dir: Path, argv: Sequence[str], variables: Mapping[str, str]) -> None:
        logs_dir.mkdir(parents=True, exist_ok=True)
        self._log_path = logs_dir / f"engine-{uuid.uuid4().hex}.log"
        environment = {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ} | dict(variables)
        with self._log_path.open("ab") as log_file:
            self._process = subprocess.Popen(
                list(argv),
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
        self._load = Load()
        #: What the process has said to what was `asked`: number -> status of HTTP, and text.
        self.answers: dict[int, tuple[int, str]] = {}
        self._numbers = itertools.count(1)
        #: Adapters beside its model, by name.
        self._adapters: dict[str, ServedAdapter] = {}
        #: Those that it would not load, and may have all the same: it took too long to say so.
        self._doubted: dict[str, ServedAdapter] = {}
        #: How many it has had, or was asked to load.
        self._adapters_had = 0
        #: The number under which it was asked to load, or to unload, this one.
        self._changing: tuple[int, ServedAdapter, bool] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    def say(self, message: Mapping[str, Any]) -> None:
        """Sends one line. Raises BrokenPipeError when the process is gone."""
        self._orders.write(json.dumps(message).encode() + b"\n")

    def asked(self, message: Mapping[str, Any]) -> int:
        """Sends one line that is answered; the number under which `answers` has what is said to it."""
        number = next(self._numbers)
        # Of one that is gone nothing comes; its state tells.
        with contextlib.suppress(BrokenPipeError):
            self.say({"number": number, **message})
        return number

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

    def load(self) -> Load:
        return self._load

    @property
    def can_sleep(self) -> bool:
        return False

    def sleep(self) -> bool:
        return False

    def wake(self) -> bool:
        return False

    def _change_of(self, adapter: ServedAdapter, *, load: bool) -> Mapping[str, Any] | None:
        """The line for `asked` that asks for it; None: it can't."""
        return None

    def can_have(self, adapters: Sequence[ServedAdapter]) -> bool:
        known = [adapter for adapter in adapters if adapter.name in self._adapters]
        if any(self._adapters[adapter.name].digest != adapter.digest for adapter in known):
            return False
        changed = [(adapter, True) for adapter in adapters if adapter.name not in self._adapters]
        changed += [(adapter, False) for adapter in self._beyond(adapters)]
        return all(self._change_of(adapter, load=load) is not None for adapter, load in changed)

    def load_adapters(self, adapters: Sequence[ServedAdapter]) -> bool | EngineFailure:
        if (failure := self._settle()) is not None:
            return failure
        return self._change((adapter for adapter in adapters if adapter.name not in self._adapters), load=True)

    def unload_adapters(self, kept: Sequence[ServedAdapter]) -> bool:
        if (failure := self._settle()) is not None:
            log.warning("engine %d: %s", self.pid, failure.message)
        return self._change(self._beyond(kept), load=False)

    def _beyond(self, adapters: Sequence[ServedAdapter]) -> list[ServedAdapter]:
        names = {adapter.name for adapter in adapters}
        return [adapter for name, adapter in self._adapters.items() if name not in names] + [*self._doubted.values()]

    def _change(self, left: Iterable[ServedAdapter], *, load: bool) -> bool:
        """Asks for the first that is left to be loaded or unloaded; True when there is none, and nothing under way."""
        first = next(iter(left), None)
        if first is not None and self._changing is None and (line := self._change_of(first, load=load)) is not None:
            self._changing = self.asked(line), first, load
            self._adapters_had += load
        return first is None and self._changing is None

    def _settle(self) -> EngineFailure | None:
        """Takes what was said to the last change, if it was; why one was not loaded."""
        if self._changing is None or (answer := self.answers.pop(self._changing[0], None)) is None:
            return None
        (_, adapter, load), self._changing = self._changing, None
        status, text = answer
        done, known = status == HTTPStatus.OK, self._adapters if status == HTTPStatus.OK else self._doubted
        if load:
            known[adapter.name] = adapter
        else:
            # What it did not forget is asked for by nobody.
            done = self._doubted.pop(adapter.name, None) is not None or done
            self._adapters.pop(adapter.name, None)
        if done:
            return None
        what = "take" if load else "let go of"
        return EngineFailure(
            Reason.invalid_model, f"The engine does not {what} {adapter.name}: {_words(text) or f'status {status}'}"
        )

    @property
    def awake(self) -> bool:
        return self.state() is EngineState.ready

    def terminate(self) -> None:
        # The process itself only; `poll` has reaped it or it still owns its pid, so no other process is hit.
        self._process.terminate()

    def kill(self) -> None:
        if self._process.poll() is None:
            # Engines of others start groups of their own: those first, while it can still be seen whose they are.
            for pid in descendants_of(self._process.pid):
                with contextlib.suppress(ProcessLookupError):  # it ended in between
                    os.kill(pid, signal.SIGKILL)
            signal_group(self._process.pid, signal.SIGKILL)

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
            elif status["state"] == "busy":
                share = status["cache_share"]
                self._load = Load(status["running"], status["waiting"], None if share is None else float(share))
            elif status["state"] == "answered":
                self.answers[int(status["number"])] = (int(status["status"]), str(status["text"]))
        except (ValueError, KeyError, TypeError):
            # A library may print; only the worker would be harmed by taking it for a status.
            log.warning("engine %d wrote to its status pipe: %r", self.pid, line[:LOG_TAIL_BYTES])


def _words(text: str) -> str:
    """What a refusal says; engines write it as OpenAI does, or plainly."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return text.strip()


def remove_left_logs(logs_dir: Path) -> None:
    """Engines die with their worker; the logs of one that was killed are nobody's."""
    for left in logs_dir.glob("engine-*.log"):
        left.unlink()
