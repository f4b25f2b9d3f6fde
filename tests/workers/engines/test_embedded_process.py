from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobspecs.lifecycle import Reason
from workers.engines.embedded.engine import EmbeddedProcess
from workers.engines.interface import EngineFailure


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
