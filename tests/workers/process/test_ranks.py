"""What becomes of a job when one of its ranks ends. Each case runs in a process of its own: `run_ranks` may die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from workers.process.child_task import EXIT_FAILED, EXIT_STOPPED

ROOT = Path(__file__).parents[3]
PREAMBLE = """
    import logging, os, signal, sys, time
    from jobspecs.events import FailureEvent
    from workers.process import ranks

    logging.basicConfig(stream=sys.stderr)
    ranks._GRACE_S = 0.3

    def fail(tell, message):
        tell(FailureEvent(reason="out_of_memory", message=message))
        return 1

    def emit(failure):
        sys.stdout.write(failure.message)

"""


def run(body: str, size: int = 3) -> subprocess.CompletedProcess[str]:
    """`body`: of a function of `rank` and `tell`."""
    function = "def body(rank, tell):\n" + textwrap.indent(textwrap.dedent(body), "    ")
    script = textwrap.dedent(PREAMBLE) + function + f"\nsys.exit(ranks.run_ranks({size}, body, emit))\n"
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_all_end_well() -> None:
    done = run("return 0")
    assert (done.returncode, done.stdout) == (0, "")


def test_a_rank_that_fails_ends_those_that_wait_for_it() -> None:
    done = run("""
        if rank == 1:
            return fail(tell, "GPU 1 is full")
        time.sleep(600)
    """)
    assert (done.returncode, done.stdout) == (EXIT_FAILED, "GPU 1 is full")
    assert "ranks [0, 2] wait for the others in vain and are killed" in done.stderr


def test_what_failed_first_is_told_and_not_what_followed_from_it() -> None:
    done = run("""
        if rank == 2:
            return fail(tell, "the cause")
        time.sleep(0.1 + rank / 20)
        return fail(tell, "connection lost")
    """)
    assert (done.returncode, done.stdout) == (EXIT_FAILED, "the cause")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_rank_killed_by_a_signal_takes_the_job_with_it_by_the_same(number: signal.Signals) -> None:
    done = run(f"""
        if rank == 1:
            os.kill(os.getpid(), {int(number)})
        time.sleep(0.1)
        return fail(tell, "connection lost")
    """)
    assert (done.returncode, done.stdout) == (-number, "")
    assert f"rank 1 was killed by {number.name}" in done.stderr


def test_ranks_that_were_asked_to_stop_have_not_failed() -> None:
    done = run(f"""
        if rank == 0:
            return {EXIT_STOPPED}
        return fail(tell, "connection lost")
    """)
    assert (done.returncode, done.stdout) == (EXIT_STOPPED, "")


def test_a_defect_leaves_its_traceback_and_no_second_job() -> None:
    done = run("raise ValueError('a defect')")
    assert done.returncode == EXIT_FAILED
    assert done.stderr.count("ValueError: a defect") == 3


def test_a_long_message_is_cut_to_fit_the_pipe() -> None:
    done = run("return fail(tell, 'ä' * 5000)", size=20)
    assert done.returncode == EXIT_FAILED
    assert done.stdout == "ä" * 700
