"""What a process that handles foreign bytes may take, how it is started, and what its end means."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ANSWER_BYTES_MAX = 32 * 1024**2
#: Exit code of a process that had no memory left to say so; 1 is a defect.
OUT_OF_MEMORY = 2
#: Descriptors that it may have open.
_FILES_MAX = 64
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: Nothing else of the environment: it holds the platform's secrets. One thread, for each would reserve 64 MiB of the
#: address space that is bounded, and none would survive a fork; Arrow's own allocators reserve a gigabyte at once.
_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


@dataclass(frozen=True)
class Limits:
    """What one task may take: seconds of CPU, bytes of memory, and seconds by the clock on a busy machine.

    The clock runs from the order on: also while the process starts, which takes a second or two.
    """

    cpu_s: int
    memory_bytes: int
    wall_s: float


class Overran(Exception):
    """The task took more than it was given."""

    def __init__(self, what: Literal["time", "memory", "answer"]) -> None:
        self.what = what
        super().__init__({"time": "too much time", "memory": "too much memory", "answer": "too long an answer"}[what])


class TaskFailed(RuntimeError):
    """The task raised what it should not, a defect; its traceback is in this process's standard error."""


def start(module: str, *arguments: str, pipe: bool = False, pass_fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """`python -m module arguments`; with a `pipe` to its standard input and from its output. Raises OSError."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **_ENVIRONMENT},
        pass_fds=pass_fds,
        stdin=subprocess.PIPE if pipe else subprocess.DEVNULL,
        stdout=subprocess.PIPE if pipe else subprocess.DEVNULL,
        bufsize=0,
    )


def end(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """Waits for a process whose input was closed; one that does not end within `patience_s` is killed."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience_s)
    process.kill()
    process.wait()


def why_ended(code: int) -> Overran | TaskFailed:
    """What an exit code, or minus the number of a signal, says of a task that gave no answer."""
    if code == -signal.SIGXCPU:
        return Overran("time")
    if code < 0 or code == OUT_OF_MEMORY:
        # The kernel kills where memory is short, and libraries in C and Rust abort where it is refused.
        return Overran("memory")
    return TaskFailed(f"a task ended with exit code {code}")


def confine(cpu_s: int | None = None) -> None:
    """From now on this process writes no file, leaves no core, opens few, and goes first when memory is short.

    It ends after `cpu_s` seconds of CPU, if told.
    """
    if cpu_s is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    for limit, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NOFILE, _FILES_MAX)):
        resource.setrlimit(limit, (most, most))


def narrow_cpu(seconds: int) -> None:
    """From now on this process may use so many seconds of CPU, or one less: the limit counts whole ones.

    Call it again for more. Who may not raise the hard limit again, which is everybody but root, keeps it as it is.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    most, hard = int(used.ru_utime + used.ru_stime) + seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def narrow_memory(more_bytes: int) -> None:
    """From now on this process's address space may grow by so much."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * _PAGE_BYTES + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
