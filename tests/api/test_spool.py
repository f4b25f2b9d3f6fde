"""Bodies that a killed process left in the spool folder, and those that are still being received."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from tests.api.conftest import HEADLINES, RunApi

PATIENCE_S = 15.0


def make_old(path: Path) -> Path:
    os.utime(path, (1e9, 1e9))
    return path


def test_a_start_deletes_what_a_killed_process_left_and_nothing_else(run_api: RunApi, tmp_path: Path) -> None:
    left = tmp_path / "eigenwerk-body-left"
    other, young, folder = tmp_path / "other-body", tmp_path / "eigenwerk-body-new", tmp_path / "eigenwerk-body-folder"
    for path in (left, other, young):
        path.write_bytes(b"half a data set")
    folder.mkdir()
    link = tmp_path / "eigenwerk-body-link"
    link.symlink_to(other)
    for path in (left, other, folder):
        make_old(path)
    with run_api(spool_dir=tmp_path):
        assert sorted(tmp_path.iterdir()) == sorted([other, young, folder, link])


def test_a_start_leaves_alone_what_another_process_is_receiving(run_api: RunApi, tmp_path: Path) -> None:
    rows = HEADLINES.encode()

    def slow_body() -> Iterator[bytes]:
        yield rows[:100]
        deadline_s = time.monotonic() + PATIENCE_S
        while not (found := list(tmp_path.iterdir())):
            assert time.monotonic() < deadline_s
        make_old(found[0])
        with run_api(spool_dir=tmp_path):
            assert list(tmp_path.iterdir()) == found
        yield rows[100:]

    with run_api(spool_dir=tmp_path) as api:
        answer = api.client.put("/v1/datasets/slow", params={"file_name": "slow.csv"}, content=slow_body())
        assert answer.status_code == 201, answer.text
    assert not list(tmp_path.iterdir())
