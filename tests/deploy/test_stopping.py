"""How long the platform's processes get when it is stopped."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import pytest

from deploy.embedded import stopping
from deploy.embedded.errors import EmbeddedError
from deploy.embedded.processes import ManagedProcess
from deploy.embedded.stopping import StopRequested, StopSignals, drain_s, stop_all
from storage.settings import DRAIN_S

#: Says that it runs; when it is asked to end, it does so after as many seconds as it was told, and says so.
_SLOW = """
import signal, sys, time
def end(*_):
    time.sleep(float(sys.argv[1]))
    print("finished", flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("runs", flush=True)
while True:
    time.sleep(60)
"""


def slow(name: str, folder: Path, ends_after_s: float) -> ManagedProcess:
    process = ManagedProcess(
        name=name,
        argv=(sys.executable, "-c", _SLOW, str(ends_after_s)),
        environment={},
        directory=folder,
        log=folder / f"{name}.log",
    )
    process.start()
    while "runs" not in process.log_tail():
        assert process.alive()
    return process


def test_what_answers_gets_the_time_to_finish_and_the_others_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "GRACE_S", 0.1)
    processes = [slow("worker", tmp_path, 600), slow("inference", tmp_path, 0.5)]
    stop_all(processes, drain_s=60, at_once=threading.Event())
    assert not any(process.alive() for process in processes)
    assert [process.log_tail().splitlines() for process in processes] == [["runs"], ["runs", "finished"]]


def test_a_second_signal_ends_at_once_what_still_finishes_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    stops = StopSignals()
    with pytest.raises(StopRequested):
        stops(signal.SIGINT, None)
    assert "at once" not in caplog.text
    process = slow("inference", tmp_path, 600)
    timer = threading.Timer(0.1, lambda: stops(signal.SIGINT, None))
    timer.start()
    stop_all([process], drain_s=600, at_once=stops.at_once)  # would take ten minutes
    timer.join()
    assert not process.alive()
    assert "stopping at once" in caplog.text
    assert "did not end" not in caplog.text


def test_the_time_to_finish_is_that_of_the_processes_and_a_wrong_one_is_refused_by_its_name() -> None:
    assert drain_s({}) == DRAIN_S
    assert drain_s({"EIGENWERK_DRAIN_S": "7.5"}) == 7.5
    for wrong in ("soon", "-1", "inf", ""):
        with pytest.raises(EmbeddedError, match=f"EIGENWERK_DRAIN_S={wrong} is no number"):
            drain_s({"EIGENWERK_DRAIN_S": wrong})
