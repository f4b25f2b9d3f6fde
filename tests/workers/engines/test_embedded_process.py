from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobspecs.lifecycle import Reason
from workers.engines.child import LOG_BYTES_MAX
from workers.engines.embedded.engine import EmbeddedEngine, EmbeddedProcess
from workers.engines.interface import EngineFailure, Tokens


@pytest.fixture
def process(tmp_path: Path) -> Iterator[EmbeddedProcess]:
    made = EmbeddedProcess(tmp_path)
    yield made
    made.close()


def test_what_a_library_prints_is_not_taken_for_a_status(process: EmbeddedProcess) -> None:
    for line in (b"Loading weights: 100%", b"[]", b"3", b'{"state": "failed", "reason": "no such reason"}', b"\xff"):
        process._take(line)
    assert process.failure() is None
    process._take(b'{"state": "failed", "reason": "invalid_model", "message": "why"}')
    assert process.failure() == EngineFailure(Reason.invalid_model, "why")


def test_the_newest_status_says_how_many_tokens_there_were(process: EmbeddedProcess) -> None:
    assert process.tokens() == Tokens()
    for line in (b'{"state": "served", "prompt_tokens": 3, "generated_tokens": 1}', b'{"state": "served"}'):
        process._take(line)
    assert process.tokens() == Tokens(3, 1)


def test_the_log_of_a_long_life_stays_within_its_bound_and_none_is_left_by_a_killed_worker(
    process: EmbeddedProcess, tmp_path: Path
) -> None:
    log = next(tmp_path.glob("engine-*.log"))
    os.truncate(log, LOG_BYTES_MAX + 1)
    process.state()
    assert log.stat().st_size <= LOG_BYTES_MAX
    EmbeddedEngine(tmp_path)
    assert not log.exists()
