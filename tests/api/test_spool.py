"""What killed processes left in the spool folder, and what living ones work with."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.spool import Spool
from tests.api.conftest import HEADLINES, RunApi

PATIENCE_S = 15.0
#: A process that makes one thing of each kind and is killed.
KILLED = """
import os, signal, sys
from pathlib import Path
from api.spool import Spool

folder = Spool(Path(sys.argv[1])).folder
(folder / "body-1").write_bytes(b"half a data set")
(folder / "look-1").mkdir()
(folder / "look-1" / "tokenizer.json").write_text("{}")
os.kill(os.getpid(), signal.SIGKILL)
"""


def make_old(path: Path) -> Path:
    os.utime(path, (1e9, 1e9), follow_symlinks=False)
    return path


def test_a_start_deletes_all_that_a_killed_process_left_and_nothing_else(run_api: RunApi, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, timeout=60)
    (left,) = tmp_path.iterdir()
    assert len(list(left.rglob("*"))) == 3
    formers = [tmp_path / "eigenwerk-body-left", tmp_path / "eigenwerk-look-left", tmp_path / "eigenwerk-chat-link"]
    others = [tmp_path / "other", tmp_path / "eigenwerk-else", tmp_path / "eigenwerk-preview-new"]
    formers[0].write_bytes(b"half a data set")
    formers[1].mkdir()
    formers[2].symlink_to(others[0])
    for path in others:
        path.write_bytes(b"somebody's")
    for path in [*formers, *others[:2]]:
        make_old(path)
    with run_api(spool_dir=tmp_path):
        assert sorted(tmp_path.iterdir()) == sorted(others)
    assert others[0].read_bytes() == b"somebody's"


def test_a_sweep_leaves_alone_what_another_process_works_with(run_api: RunApi, tmp_path: Path) -> None:
    rows = HEADLINES.encode()
    other = Spool(tmp_path)

    def slow_body() -> Iterator[bytes]:
        yield rows[:100]
        deadline_s = time.monotonic() + PATIENCE_S
        while not (found := list(tmp_path.glob("*/body-*"))):
            assert time.monotonic() < deadline_s
        make_old(found[0].parent)
        other.sweep()
        assert list(tmp_path.glob("*/body-*")) == found
        yield rows[100:]

    with run_api(spool_dir=tmp_path) as api:
        answer = api.client.put("/v1/datasets/slow", params={"file_name": "slow.csv"}, content=slow_body())
        assert answer.status_code == 201, answer.text
        assert not list(tmp_path.glob("*/body-*"))
    assert not list(tmp_path.iterdir()), "at its end a process takes its folder away"


def test_a_folder_that_is_swept_while_it_is_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = fcntl.flock
    swept: list[Path] = []

    def sweep_first(descriptor: int, operation: int) -> None:
        if not swept:
            swept.extend(tmp_path.iterdir())
            Spool(tmp_path).sweep()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    folder = Spool(tmp_path).folder
    assert [folder] == list(tmp_path.iterdir()) != swept


def test_what_cleans_tmp_takes_files_and_at_last_the_folder_and_the_process_goes_on(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for path in make_old(spool.folder).iterdir():
        path.unlink()
    body = spool.folder / "body-1"
    body.write_bytes(b"half a data set")
    make_old(spool.folder)
    for sweeper in (spool, Spool(tmp_path)):
        sweeper.sweep()
        assert body.exists()
    shutil.rmtree(spool.folder)
    assert spool.folder.is_dir()
    spool.close()
    assert not list(tmp_path.iterdir())
