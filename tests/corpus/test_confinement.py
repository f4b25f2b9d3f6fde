"""A task in a process of its own: what it may take, and that it ends with whoever asked."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corpus.confinement.confinement import Confinement, ConfinementUnavailable, Stopped
from corpus.confinement.process import Limits, Overran, TaskFailed
from jobspecs.problems import InvalidInput

LIMITS = Limits(cpu_s=20, memory_bytes=1024**3, wall_s=120)


@pytest.fixture(scope="module")
def confinement() -> Iterator[Confinement]:
    made = Confinement("tests.corpus.confined_tasks:TASKS")
    yield made
    made.close()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_until_gone(pid: int) -> None:
    deadline_s = time.monotonic() + 60
    while not gone(pid):
        assert time.monotonic() < deadline_s, f"process {pid} still runs"
        time.sleep(0.01)


def told(confinement: Confinement) -> Any:
    return confinement.run("told", {"value": [1, 2], "path": Path("/x")}, LIMITS)


def sleeping(confinement: Confinement, folder: Path, **options: Any) -> tuple[threading.Thread, int, list[Exception]]:
    """A task that waits: the thread that waits for it, its number, and what the thread got."""
    got: list[Exception] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "told"))
        listener.listen()
        # A task that could not be started connects never.
        listener.settimeout(60)

        def run() -> None:
            try:
                confinement.run("sleep", {"path": folder / "told"}, LIMITS, **options)
            except Exception as error:
                got.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        with listener.accept()[0] as connection:
            pid = int(connection.recv(100))
    return thread, pid, got


def test_arguments_and_results_travel_and_each_task_has_a_process_of_its_own(confinement: Confinement) -> None:
    first, second = told(confinement), told(confinement)
    assert (first["sum"], first["path"], first["niceness"]) == (3, "/x", min(19, os.nice(0) + 10))
    assert first["pid"] != second["pid"]
    wait_until_gone(first["pid"])


def test_what_is_wrong_with_the_input_arrives_as_it_was_said(confinement: Confinement) -> None:
    with pytest.raises(InvalidInput) as refused:
        confinement.run("refuse", {}, LIMITS)
    [problem] = refused.value.problems
    assert (problem.message, problem.row, problem.remedy) == ("it is wrong.", 3, "Mend it.")


@pytest.mark.parametrize(
    ("task", "limits", "what"),
    [
        ("spin", Limits(1, 1024**3, 120), "time"),
        ("spin", Limits(20, 1024**3, 1), "time"),
        ("grow", LIMITS, "memory"),
        ("crash", LIMITS, "memory"),
        ("babble", LIMITS, "answer"),
    ],
)
def test_a_task_that_takes_too_much_is_ended(confinement: Confinement, task: str, limits: Limits, what: str) -> None:
    with pytest.raises(Overran) as overran:
        confinement.run(task, {}, limits)
    assert overran.value.what == what
    assert told(confinement)["sum"] == 3


def test_it_writes_no_file_sees_no_secret_and_has_no_descriptor_but_its_own(
    confinement: Confinement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EIGENWERK_S3_SECRET_KEY", "geheim")
    with pytest.raises(TaskFailed):
        confinement.run("write", {"path": tmp_path / "file"}, LIMITS)
    assert "EIGENWERK_S3_SECRET_KEY" not in confinement.run("secrets", {}, LIMITS)
    # Three standard ones, its channel, and the one that counts.
    assert confinement.run("files", {}, LIMITS) <= 5


def test_it_ends_when_nobody_waits_any_more(confinement: Confinement, tmp_path: Path) -> None:
    left = threading.Event()
    thread, pid, got = sleeping(confinement, tmp_path, should_stop=left.is_set)
    left.set()
    thread.join(60)
    wait_until_gone(pid)
    assert isinstance(got[0], Stopped)


def test_it_ends_with_the_process_that_asked(tmp_path: Path) -> None:
    confinement = Confinement("tests.corpus.confined_tasks:TASKS")
    thread, pid, got = sleeping(confinement, tmp_path)
    confinement.close()
    thread.join(60)
    wait_until_gone(pid)
    assert isinstance(got[0], Stopped)
    with pytest.raises(Stopped):
        told(confinement)


def test_a_zygote_that_died_is_started_again(tmp_path: Path) -> None:
    confinement = Confinement("tests.corpus.confined_tasks:TASKS")
    try:
        assert told(confinement)["sum"] == 3
        assert confinement._process is not None
        os.kill(confinement._process.pid, signal.SIGKILL)
        confinement._process.wait()
        assert told(confinement)["sum"] == 3
    finally:
        confinement.close()


def test_a_task_that_raises_what_it_should_not_is_a_defect_and_takes_no_memory(confinement: Confinement) -> None:
    with pytest.raises(TaskFailed):
        confinement.run("fail", {}, LIMITS)
    assert told(confinement)["sum"] == 3


def test_a_machine_without_room_for_a_process_makes_it_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    confinement = Confinement("tests.corpus.confined_tasks:TASKS")
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", refuse)
        with pytest.raises(ConfinementUnavailable):
            told(confinement)
    try:
        assert told(confinement)["sum"] == 3
    finally:
        confinement.close()


def test_a_thread_that_met_the_end_of_a_zygote_leaves_the_next_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread learns of it only when another one has started the next zygote."""
    confinement = Confinement("tests.corpus.confined_tasks:TASKS")
    send = socket.send_fds
    replaced: list[Any] = []

    def send_late(*arguments: Any) -> int:
        if replaced:
            return send(*arguments)
        confinement._end()
        confinement._start()
        replaced.append(confinement._process)
        raise BrokenPipeError

    try:
        monkeypatch.setattr(socket, "send_fds", send_late)
        assert told(confinement)["sum"] == 3
        assert confinement._process is replaced[0]
    finally:
        confinement.close()
