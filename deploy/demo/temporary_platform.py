"""An embedded platform in a folder of its own that vanishes afterwards, whatever happens in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import deploy
from deploy.embedded import launch as launcher
from deploy.embedded.given import SERVICE_VARIABLES
from deploy.embedded.stack import EmbeddedServices
from eigenwerk import Connection, EigenwerkError
from eigenwerk.connection import PLATFORM_FILE, read_platform_file

#: The first start makes a database cluster and loads torch.
_START_TIMEOUT_S = 180.0
#: A worker gets 25 s to stop its jobs, and the servers stop after it.
_STOP_TIMEOUT_S = 90.0
_LOG_LINES = 25


@contextmanager
def temporary_platform() -> Iterator[tuple[Connection, Path]]:
    """Yields how to reach it, and its folder. Raises EigenwerkError with the end of its log when it does not start."""
    home = Path(tempfile.mkdtemp(prefix="eigenwerk-demo-"))
    ready, log = home / "ready", home / "up.log"
    # Told to stop when this process is killed.
    launch = [sys.executable, "-I", "-S", launcher.__file__, str(int(signal.SIGTERM)), str(os.getpid()), "-1", "-1"]
    command = [*launch, sys.executable, "-m", "deploy.embedded", "up"]
    command += ["--home", str(home), "--ready-file", str(ready)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # It shall leave nothing behind in anybody's services.
            env={name: value for name, value in os.environ.items() if name not in SERVICE_VARIABLES},
            cwd=Path(deploy.__file__).parents[1],
        )
    try:
        yield _await_ready(process, home, ready, log), home
    finally:
        _stop(process, home)


def _await_ready(process: subprocess.Popen[bytes], home: Path, ready: Path, log: Path) -> Connection:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while not ready.exists():
        if process.poll() is not None:
            raise EigenwerkError(f"The platform ended with exit code {process.returncode}:\n{_tail(log)}")
        if time.monotonic() > deadline_s:
            raise EigenwerkError(f"The platform was not ready after {_START_TIMEOUT_S:g} s:\n{_tail(log)}")
        time.sleep(0.1)
    connection = read_platform_file(home / PLATFORM_FILE)
    if connection is None:
        raise EigenwerkError(f"The platform said it was ready and ended:\n{_tail(log)}")
    return connection


def _stop(process: subprocess.Popen[bytes], home: Path) -> None:
    """Ends the platform and removes what it stored. A second Ctrl-C must not leave half of it running."""
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        EmbeddedServices(home).remove_data()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:])
