"""Tasks that misbehave, for the tests of the confinement."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

from jobspecs.problems import InvalidInput, Problem


def told(value: list[int], path: Path) -> dict[str, Any]:
    return {"sum": sum(value), "path": path, "pid": os.getpid(), "niceness": os.nice(0)}


def refuse() -> None:
    raise InvalidInput([Problem(message="it is wrong.", row=3, remedy="Mend it.")])


def spin() -> None:
    while True:
        pass


def grow() -> int:
    return len(b"x" * 2**32)


def sleep(path: Path) -> None:
    """Tells its number in a file that is there already and may not grow, then waits."""
    with socket.socket(socket.AF_UNIX) as told_to:
        told_to.connect(str(path))
        told_to.sendall(str(os.getpid()).encode())
        time.sleep(600)


def write(path: Path) -> None:
    path.write_bytes(b"x" * 100_000)


def secrets() -> dict[str, str]:
    return dict(os.environ)


def files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted at this moment


def babble() -> str:
    return "x" * (64 * 1024**2)


def fail() -> None:
    raise ZeroDivisionError("a defect")


def crash() -> None:
    os.abort()


TASKS = {task.__name__: task for task in (told, refuse, spin, grow, sleep, write, secrets, files, babble, fail, crash)}
