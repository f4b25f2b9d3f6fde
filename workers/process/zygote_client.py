"""The worker's side of the zygote: starts it, asks it for children, hears of their ends."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from workers.daemon.process_control import group_is_gone, signal_group
from workers.process.zygote import MESSAGE_BYTES_MAX

log = logging.getLogger(__name__)

#: Seconds that a fork may take on a busy machine.
_FORK_S = 30.0
#: What a zygote and its children may see of the worker's environment. No EIGENWERK_ variable that could hold a secret.
_PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    # The indices of GPUs mean what they mean to the worker.
    "CUDA_DEVICE_ORDER",
    "EIGENWERK_TORCH_THREADS",
)
_SET = {
    # One thread before the fork: a library's thread pool would not survive it.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Inputs are fetched and verified by the worker; a job has no business on the network.
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONUNBUFFERED": "1",
    # The allocator of pyarrow starts a thread when it is loaded; this keeps the zygote at one.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    # glibc gives freed memory back to the kernel at once and gets it again at the next training step, page by page.
    # Keeping it takes 8 % less CPU (MiniLM-L6). Huge pages (glibc.malloc.hugetlb) took three times the system time.
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    # No GPU before the fork; a child sets its own.
    "CUDA_VISIBLE_DEVICES": "",
}


class ZygoteUnavailable(Exception):
    """The zygote has ended, or is not yet ready."""


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of zygote and children."""
    return {name: environment[name] for name in _PASSED_ON if name in environment} | _SET


class ChildProcess:
    """A running child: the reading ends of its pipes, and its end once that came."""

    def __init__(self, event_fd: int, log_fd: int) -> None:
        self.event_fd = event_fd
        self.log_fd = log_fd
        self.pid = 0
        #: As from os.waitpid; a child that went down with its zygote has SIGKILL.
        self.status: int | None = None
        self.orphaned = False
        self.started = threading.Event()
        self.exited = threading.Event()

    def signal(self, number: signal.Signals) -> None:
        """Signals the child and all processes of its group."""
        if not self.exited.is_set():
            signal_group(self.pid, number)

    def is_gone(self) -> bool:
        """Whether nothing of its group is left."""
        return self.exited.is_set() and group_is_gone(self.pid)


class ZygoteClient:
    """One zygote process. When it has ended, make a new client."""

    def __init__(self, runners: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ready = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._children: dict[str, ChildProcess] = {}
        self._channel = ours
        self._started_at = time.monotonic()
        with theirs:
            # Must be called in a thread that lives as long as the worker: the zygote dies with the thread that made it.
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    *("-m", "workers.process.zygote", "--socket-fd", str(theirs.fileno())),
                    *("--parent-pid", str(os.getpid()), "--runners", runners),
                ],
                env=child_environment(os.environ),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # Away from the terminal: Ctrl-C is for the worker, which then stops its children in good order.
                start_new_session=True,
            )
        threading.Thread(target=self._listen, name="zygote-listener", daemon=True).start()

    @property
    def alive(self) -> bool:
        return not self._ended.is_set()

    @property
    def pid(self) -> int:
        return self._process.pid

    def spawn(self, task: Path) -> ChildProcess:
        """Forks a child for the task file. Raises ZygoteUnavailable."""
        if not self.ready.is_set() or not self.alive:
            raise ZygoteUnavailable("the zygote is not ready")
        event_read, event_write = os.pipe()
        log_read, log_write = os.pipe()
        child = ChildProcess(event_read, log_read)
        start_id = uuid4().hex
        try:
            with self._lock:
                self._children[start_id] = child
                request = json.dumps({"start": start_id, "task": str(task)}).encode()
                socket.send_fds(self._channel, [request], [event_write, log_write])
        except OSError as error:
            self._forget(start_id, child)
            raise ZygoteUnavailable(f"the zygote does not answer: {error}") from error
        finally:
            os.close(event_write)
            os.close(log_write)
        if not child.started.wait(_FORK_S):
            # It may fork yet, beside the child that is asked for next. A child goes down with its zygote.
            log.error("the zygote did not fork within %.0f s; it is killed", _FORK_S)
            self._process.kill()
        if not child.pid:
            self._forget(start_id, child)
            raise ZygoteUnavailable("the zygote did not start the child")
        return child

    def close(self) -> None:
        """Ends the zygote, and with it every child."""
        self._process.kill()
        self._process.wait()
        self._channel.close()

    def _listen(self) -> None:
        try:
            while message := self._receive():
                self._handle(json.loads(message))
        except Exception:
            # Without a listener nobody would hear of a child's end: the zygote is given up.
            log.exception("a message of the zygote could not be dealt with")
        finally:
            self._process.kill()
            self._end()

    def _receive(self) -> bytes:
        """The next message; empty when the zygote is gone."""
        try:
            return self._channel.recv(MESSAGE_BYTES_MAX)
        except OSError:
            return b""

    def _end(self) -> None:
        self._ended.set()
        with self._lock:
            orphans, self._children = list(self._children.values()), {}
        for child in orphans:
            # The kernel kills the children of a dead zygote; make sure before saying so.
            if child.pid:
                signal_group(child.pid, signal.SIGKILL)
            child.status, child.orphaned = int(signal.SIGKILL), True
            child.exited.set()
            child.started.set()
        self._process.wait()

    def _handle(self, message: dict[str, str | int]) -> None:
        if "ready" in message:
            log.info("zygote ready after %.1f s", time.monotonic() - self._started_at)
            self.ready.set()
        elif "started" in message:
            self._started(str(message["started"]), int(message["pid"]))
        elif "exited" in message:
            with self._lock:
                child = self._children.pop(str(message["exited"]), None)
            if child is not None:
                child.status = int(message["status"])
                child.exited.set()

    def _started(self, start_id: str, pid: int) -> None:
        with self._lock:
            child = self._children.get(start_id)
            if child is not None:
                child.pid = pid
        if child is not None:
            child.started.set()
        else:
            log.warning("child %d came too late: nobody waits for it any more; it is killed", pid)
            signal_group(pid, signal.SIGKILL)

    def _forget(self, start_id: str, child: ChildProcess) -> None:
        with self._lock:
            self._children.pop(start_id, None)
        os.close(child.event_fd)
        os.close(child.log_fd)
