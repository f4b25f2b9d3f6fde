"""Child processes: started in a session of their own, ended as a group, and dead when this process is."""

from __future__ import annotations

import functools
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from deploy.embedded.errors import EmbeddedError, full_disk, hint_at_full_disk, is_full

logger = logging.getLogger(__name__)

_POLL_S = 0.02
#: A log larger than this is set aside, also while it is written: with the one before it, a log takes twice this.
LOG_BYTES_MAX = 16 * 2**20
_LAUNCH = Path(__file__).with_name("launch.py")


@dataclass(frozen=True)
class Account:
    """The unprivileged user under which a program runs."""

    name: str
    uid: int
    gid: int


@dataclass(kw_only=True)
class ManagedProcess:
    """One child process, which may be started again after it ended.

    `argv[0]` is an absolute path. `environment` is the child's whole environment. The output is appended to `log`.
    `stop_signal` asks it to end; `death_signal` is sent by the kernel when this process dies.
    """

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    log: Path
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGTERM
    _popen: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _log_start_bytes: int = field(default=0, init=False)

    @property
    def pid(self) -> int | None:
        """The process id; None when it is not running."""
        return self._popen.pid if self._popen else None

    def start(self) -> None:
        """Starts it; callable from any thread. Raises `EmbeddedError` when it runs already."""
        if self.alive():
            raise EmbeddedError(f"{self.name} is running already (pid {self.pid})")
        _launcher().submit(self._spawn).result()

    def alive(self) -> bool:
        """Whether it runs (a paused one does); one that ended is reaped here, with what is left of its group."""
        if self._popen is None:
            return False
        # WNOWAIT keeps the pid ours until the group has been killed, so that it cannot name somebody else's.
        if os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return True
        self._finish()
        return False

    def stop(self, grace_s: float, at_once: threading.Event | None = None) -> None:
        """Asks it to end and kills its group after `grace_s`, or when `at_once` is set; nothing when it doesn't run."""
        if not self.alive():
            return
        self.send(self.stop_signal)
        self.resume()  # a paused process could not act upon the signal
        if self._ended_within(grace_s, at_once):
            return
        if at_once is None or not at_once.is_set():
            logger.warning("%s did not end within %g s of %s: killed", self.name, grace_s, self.stop_signal.name)
        self.kill()

    def kill(self) -> None:
        """Kills its group at once (SIGKILL) and waits until it is gone."""
        if self.alive():
            self._finish()

    def pause(self) -> None:
        """Halts it (SIGSTOP): connections stay open and nothing answers."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets a paused process go on."""
        self.send(signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process alone; does nothing when it is not running."""
        if self.alive() and self._popen is not None:
            self._popen.send_signal(number)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines that this run wrote."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(min(self._log_start_bytes, size), size - 65536))
            return "\n".join(stream.read().decode(errors="replace").splitlines()[-lines:])

    def rotate_log(self) -> None:
        """Sets a large log aside. The process keeps its file, which is emptied; lines of that moment may be lost."""
        if not self.log.exists() or self.log.stat().st_size <= LOG_BYTES_MAX:
            return
        earlier = self.log.with_name(self.log.name + ".1")
        try:
            shutil.copyfile(self.log, earlier)
            earlier.chmod(0o600)
        except OSError as error:
            earlier.unlink(missing_ok=True)
            if not is_full(error):
                raise
            logger.warning("%s is emptied without a copy: %s", self.log, full_disk(self.log.parent))
        os.truncate(self.log, 0)
        self._log_start_bytes = 0

    def _spawn(self) -> None:
        self.rotate_log()
        self._log_start_bytes = self.log.stat().st_size if self.log.exists() else 0
        account = ("-1", "-1") if self.account is None else (str(self.account.uid), str(self.account.gid))
        prefix = (sys.executable, "-I", "-S", str(_LAUNCH), str(int(self.death_signal)), str(os.getpid()), *account)
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._popen = subprocess.Popen(
                [*prefix, *self.argv],
                env=dict(self.environment),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)

    def _ended_within(self, seconds: float, at_once: threading.Event | None) -> bool:
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() >= deadline or (at_once is not None and at_once.is_set()):
                return False
            time.sleep(_POLL_S)
        return True

    def _finish(self) -> None:
        popen, self._popen = self._popen, None
        if popen is not None:
            os.killpg(popen.pid, signal.SIGKILL)
            popen.wait()


@dataclass(kw_only=True)
class Server:
    """A process that serves: ready when `is_ready` says so.

    `transient` are messages of its log that mean "not yet" when it ended right after the start (a predecessor that is
    still going away): it is then started again until `timeout_s` is over.
    """

    process: ManagedProcess
    is_ready: Callable[[], bool]
    #: Whether it still answers, later on, where that is another question.
    answers: Callable[[], bool] | None = None
    #: What it says itself about not being ready.
    reasons: Callable[[], str] = lambda: ""
    timeout_s: float = 60.0
    grace_s: float = 10.0
    transient: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.process.name

    @property
    def pid(self) -> int | None:
        return self.process.pid

    def start(self) -> None:
        """Starts it and waits until it serves."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Starts it without waiting."""
        self.process.start()

    def wait_until_ready(self) -> None:
        """Waits until it serves. Raises `EmbeddedError` with the end of its log when it ended or took too long."""
        deadline = time.monotonic() + self.timeout_s
        while True:
            alive = self.process.alive()
            if alive and self.is_ready():
                return
            late = time.monotonic() >= deadline
            if late or (not alive and not any(text in self.process.log_tail() for text in self.transient)):
                problem = f"is not ready after {self.timeout_s:g} s" if alive else "ended while starting"
                reasons = self.reasons() if alive else ""
                said = f": {reasons}" if reasons else ""
                raise EmbeddedError(
                    f"{self.name} {problem}{said}; {self.process.log} ends with:\n{self.process.log_tail()}"
                    f"{hint_at_full_disk(self.process.directory)}"
                )
            if not alive:
                time.sleep(0.2)
                self.process.start()
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Ends it in good order."""
        self.process.stop(self.grace_s)

    def kill(self) -> None:
        """Kills it (SIGKILL)."""
        self.process.kill()

    def pause(self) -> None:
        """Halts it (SIGSTOP)."""
        self.process.pause()

    def resume(self) -> None:
        """Lets it go on (SIGCONT)."""
        self.process.resume()

    def alive(self) -> bool:
        return self.process.alive()

    def rotate_log(self) -> None:
        """Sets a large log aside."""
        self.process.rotate_log()

    @property
    def log(self) -> Path:
        return self.process.log


def free_port(*, pair_offset: int = 0, taken: Sequence[int] = ()) -> int:
    """A free TCP port of 127.0.0.1; with `pair_offset`, port + pair_offset is free too.

    Below the range from which the kernel takes ports for outgoing connections: a server that is restarted finds its
    port free, and a client that polls a closed port cannot be connected to itself.
    """
    lowest, highest = 10240, _ephemeral_start() - 1 - pair_offset
    for _ in range(1000):
        port = random.randint(lowest, highest)
        if port not in taken and port_is_free(port) and (pair_offset == 0 or port_is_free(port + pair_offset)):
            return port
    raise EmbeddedError(f"no free port between {lowest} and {highest} on 127.0.0.1; end some of the servers there")


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on that port of the host's address now."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError:
        return False
    return True


def _ephemeral_start() -> int:
    setting = Path("/proc/sys/net/ipv4/ip_local_port_range")
    start = int(setting.read_text().split()[0]) if setting.exists() else 32768
    return start if start > 24000 else 32768


@functools.cache
def _launcher() -> ThreadPoolExecutor:
    """One thread that lives as long as this process and starts all children.

    The kernel sends a child's death signal when the *thread* that started it ends.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="launcher")
