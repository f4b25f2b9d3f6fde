"""/v1/batches, asked by somebody who means harm, and when what it needs is away."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func

from api.batches import working
from jobspecs.openai_ids import key_of
from jobspecs.problems import PROBLEMS_MAX
from tests.api.batches.test_batches import (
    CHAT,
    answers,
    begun,
    change,
    engine,
    generator,
    lines,
    sdk,
    served,
    served_at,
    until,
)
from tests.api.conftest import Api

__all__ = ["engine", "generator", "sdk", "served"]


def test_a_batch_that_names_many_models_is_told_of_the_first_that_are_not_there(served: Api, sdk: Any) -> None:
    named = [{**CHAT, "model": f"absent-{n}"} for n in range(PROBLEMS_MAX + 30)]
    batch = until(sdk, begun(sdk, lines(*named)))
    assert (batch.status, len(batch.errors.data)) == ("failed", PROBLEMS_MAX)


def test_what_would_make_the_files_of_a_batch_too_long_is_refused_line_by_line(
    served: Api, sdk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = {**CHAT, "temperature": 0}
    whole = answers(sdk, until(sdk, begun(sdk, lines(ask))).output_file_id)["ask-1"]
    size = len(json.dumps(whole).encode())
    monkeypatch.setattr(working, "LINE_BYTES_MAX", size - 200)
    long = until(sdk, begun(sdk, lines(ask, {**ask, "max_tokens": "many"})))
    assert (long.status, long.output_file_id) == ("completed", None)
    told = answers(sdk, long.error_file_id)
    assert told["ask-1"]["error"]["code"] == "answer_too_long"
    monkeypatch.undo()
    monkeypatch.setattr(working, "ANSWERS_BYTES_MAX", 10)
    monkeypatch.setattr(working, "REQUESTS_AT_ONCE", 1)
    much = until(sdk, begun(sdk, lines(ask, ask, ask)))
    assert (much.status, much.request_counts.completed, much.request_counts.failed) == ("completed", 1, 2)
    assert {line["error"]["code"] for line in answers(sdk, much.error_file_id).values()} == {"answers_too_long"}


def test_a_batch_of_a_model_that_is_away_leaves_its_place_to_others(
    served: Api, sdk: Any, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "STALLED_S", 0.3)
    served_at(served, None)
    away = [begun(sdk, lines(CHAT)) for _ in range(working.BATCHES_AT_ONCE)]
    for batch in away:
        until(sdk, batch, "in_progress")
    other = until(sdk, begun(sdk, lines({**CHAT, "model": "absent"})))
    assert other.status == "failed", "it had its turn while the others wait"
    served_at(served, engine)
    for batch in away:
        change(served, batch, lease_until=func.clock_timestamp())
        assert until(sdk, batch).request_counts.completed == 1


def test_a_batch_whose_file_is_lost_fails(served: Api, sdk: Any) -> None:
    served_at(served, None)
    batch = begun(sdk, lines(CHAT))
    until(sdk, batch, "in_progress")
    key = key_of("file", batch.input_file_id)
    assert isinstance(key, UUID)
    with served.database.unit_of_work() as work:
        version = work.datasets.get_version_or_none(key)
        assert version is not None
        stored = version.key
    assert served.objects().delete(stored) == 1
    change(served, batch, lease_until=None, fence=1000)
    failed = until(sdk, batch)
    assert (failed.status, failed.errors.data[0].code) == ("failed", "file_not_found")
