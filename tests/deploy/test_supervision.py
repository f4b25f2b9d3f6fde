"""What died or no longer answers is started again; logs stay within their bound; a full disk is named."""

from __future__ import annotations

import errno
import os
import shutil
import socketserver
import sys
import threading
import time
from dataclasses import dataclass
from http.client import BadStatusLine
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.embedded.api_address import ApiAddress
from deploy.embedded.errors import EmbeddedError, full_disk, hint_at_full_disk
from deploy.embedded.home import open_home
from deploy.embedded.processes import LOG_BYTES_MAX, ManagedProcess
from deploy.embedded.supervision import SignOfLife, Supervised, Watch, Watcher


@dataclass
class Clock:
    """Time that passes when told."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_process_that_keeps_dying_is_restarted_ever_more_slowly() -> None:
    clock = Clock()
    starts: list[float] = []
    process = Supervised("p", alive=lambda: False, start=lambda: starts.append(clock()), clock=clock)
    while len(starts) < 7:
        process.tend()
        clock.now_s += 0.25
    assert [round(later - earlier) for earlier, later in pairwise(starts)] == [2, 4, 8, 16, 30, 30]


def test_a_process_that_ran_long_is_restarted_at_once_again() -> None:
    clock = Clock()
    starts: list[float] = []
    process = Supervised("p", alive=lambda: clock() == 100.0, start=lambda: starts.append(clock()), clock=clock)
    # Dies at 0, is started at 1, dies at 1.5, is started at 3.5, lives at 100, dies at 101.
    for clock.now_s in (0.0, 1.0, 1.5, 3.5, 100.0, 101.0, 102.0):
        process.tend()
    assert starts == [1.0, 3.5, 102.0]


def test_a_process_that_can_not_be_forked_is_tried_again_with_a_message(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    starts: list[float] = []

    def start() -> None:
        starts.append(clock())
        if len(starts) < 3:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    process = Supervised("p", alive=lambda: len(starts) == 3, start=start, clock=clock)
    for clock.now_s in range(20):
        process.tend()
    assert starts == [1, 3, 7]
    assert (
        "p could not be started ([Errno 11] Resource temporarily unavailable); starting it again in 2 s" in caplog.text
    )


def test_what_no_longer_answers_is_ended_and_started_again(tmp_path: Path) -> None:
    clock = Clock()
    events: list[str] = []
    sign = tmp_path / "alive"
    watch = Watch("p", SignOfLife(sign), patience_s=10, clock=clock)
    process = Supervised(
        "p", lambda: True, lambda: events.append("start"), lambda: events.append("end"), watch=watch, clock=clock
    )
    for clock.now_s in range(40):
        if clock.now_s < 20:
            os.utime(sign, ns=(0, int(clock.now_s) + 1)) if sign.exists() else sign.touch()
        watch.ask()
        process.tend()
    # Last touched at 19; lost after 29, started a second later, and given its patience anew.
    assert events == ["end", "start"]


def test_while_a_server_is_silent_nothing_follows_from_the_silence_of_those_who_wait_for_it() -> None:
    clock = Clock()
    server = Watch("postgres", lambda: False, patience_s=600, clock=clock)
    redis = Watch("redis", lambda: True, patience_s=600, clock=clock)
    unrelated = Watch("other", lambda: False, patience_s=10, needs=redis, clock=clock)
    worker = Watch("worker", lambda: False, patience_s=10, needs=server, clock=clock)
    for clock.now_s in range(100):
        Watcher([worker, unrelated, redis, server]).look()
    assert not worker.lost()
    assert not server.lost()
    assert unrelated.lost()


def test_a_freeze_loses_nobody_and_silence_after_it_still_does() -> None:
    clock = Clock()
    watch = Watch("p", lambda: False, patience_s=120, clock=clock)
    clock.now_s = 1000
    assert not watch.lost()
    watch.ask()
    assert not watch.lost()
    for clock.now_s in range(1005, 1066, 5):
        watch.ask()
    assert watch.lost()


def test_a_question_that_raises_is_logged_as_no_answer_and_the_others_are_still_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken() -> bool:
        raise BadStatusLine("nonsense")

    clock = Clock()
    watches = [Watch("bad", broken, 10, clock=clock), Watch("good", lambda: True, 10, clock=clock)]
    for clock.now_s in range(15):
        Watcher(watches).look()
    assert [watch.lost() for watch in watches] == [True, False]
    assert "cannot tell whether bad answers" in caplog.text


def test_an_api_that_answers_nonsense_does_not_answer() -> None:
    class Nonsense(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(b"nonsense\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Nonsense) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = ApiAddress("127.0.0.1", server.server_address[1])
            assert not address.is_alive()
            assert address.reasons() == ""
        finally:
            server.shutdown()
            thread.join()


def test_a_log_is_set_aside_while_it_is_written_and_stays_within_its_bound(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "import time\nprint('x' * 1023, flush=True)\nwhile True: print('y' * 1023, flush=True); time.sleep(0.01)"
    process = ManagedProcess(
        name="talker", argv=(sys.executable, "-c", script), environment={}, directory=tmp_path, log=log
    )
    process.start()
    try:
        while "y" not in process.log_tail():
            time.sleep(0.01)
        os.truncate(log, LOG_BYTES_MAX + 1)
        process.rotate_log()
        assert (tmp_path / "log.1").stat().st_size >= LOG_BYTES_MAX
        while "y" not in process.log_tail():  # goes on at the front of the emptied file
            time.sleep(0.01)
        assert log.stat().st_size < 2**20
    finally:
        process.kill()


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert hint_at_full_disk(tmp_path) == ""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(EmbeddedError, match=r"the disk that holds .*home is full \(1 MiB are left\); make room"):
        open_home(tmp_path / "home")
    assert full_disk(tmp_path) in hint_at_full_disk(tmp_path)
