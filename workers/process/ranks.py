"""The ranks of a job on several GPUs: a process for each, forked from the child as the child was from the zygote.

Not started by torch's launcher: it needs twelve seconds of imports per rank, and it puts each rank into a session of
its own, where the signals that the worker sends to the job's group would not reach it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

from jobspecs.events import FailureEvent
from workers.daemon.process_control import die_with_parent
from workers.process.child_task import EXIT_FAILED, EXIT_STOPPED

_log = logging.getLogger(__name__)

#: Seconds that the other ranks have to end by themselves once one has: their own ends tell what came first.
_GRACE_S = 5.0
_LOOK_S = 0.02
#: So much of a failure's text fits whole into a pipe together with those of 20 other ranks.
_MESSAGE_CHARS_MAX = 700

Tell = Callable[[FailureEvent], None]


def run_ranks(size: int, body: Callable[[int, Tell], int], emit: Tell) -> int:
    """Runs `body(rank, tell)` in `size` processes and returns the exit code that stands for all of them.

    A rank that fails ends the others; what it told first goes to `emit`. When a signal killed a rank, this process
    dies by the same one, so that the worker sees the job's death as what it is.
    """
    failures, told = os.pipe()
    parent = os.getpid()
    running: dict[int, int] = {}
    for rank in range(size):
        pid = os.fork()
        if pid == 0:
            os.close(failures)
            _become_rank(parent, rank, body, told)
        running[pid] = rank
    os.close(told)
    codes = _ends_of(running)
    with os.fdopen(failures, "rb") as pipe:
        lines = pipe.read().splitlines()
    for rank, code in codes:
        if code < 0:
            _log.error("rank %d was killed by %s", rank, signal.Signals(-code).name)
            _die_by(-code)
    if any(code == EXIT_STOPPED for _, code in codes):
        return EXIT_STOPPED
    if lines:
        emit(FailureEvent.model_validate_json(lines[0]))
        return EXIT_FAILED
    return next((code for _, code in codes if code != 0), 0)


def _become_rank(parent: int, rank: int, body: Callable[[int, Tell], int], told: int) -> None:
    """Never returns."""

    def tell(failure: FailureEvent) -> None:
        short = failure.model_copy(update={"message": failure.message[:_MESSAGE_CHARS_MAX]})
        # One write of less than PIPE_BUF: the lines of several ranks don't mix.
        os.write(told, short.model_dump_json().encode() + b"\n")

    status = EXIT_FAILED
    try:
        die_with_parent(parent)
        status = body(rank, tell)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _ends_of(running: dict[int, int]) -> list[tuple[int, int]]:
    """(rank, exit code) in the order in which they ended; those that had to be killed are left out."""
    ends: list[tuple[int, int]] = []
    deadline: float | None = None
    while running:
        pid, status = os.waitpid(-1, 0 if deadline is None else os.WNOHANG)
        if pid:
            rank, code = running.pop(pid), os.waitstatus_to_exitcode(status)
            ends.append((rank, code))
            if code != 0 and deadline is None:
                deadline = time.monotonic() + _GRACE_S
        elif deadline is not None and time.monotonic() >= deadline:
            _log.warning("ranks %s wait for the others in vain and are killed", sorted(running.values()))
            for straggler in running:
                os.kill(straggler, signal.SIGKILL)
            for straggler in running:
                os.waitpid(straggler, 0)
            break
        else:
            time.sleep(_LOOK_S)
    return ends


def _die_by(number: int) -> None:
    sys.stderr.flush()
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
