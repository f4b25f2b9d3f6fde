"""/v1/batches, driven by OpenAI's own client, over a model that answers."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import UUID

import openai
import pytest
from sqlalchemy import func, update

from jobspecs.batches import ENDED
from jobspecs.openai_ids import key_of
from storage.tables import BatchRow
from tests.api.conftest import Api
from tests.api.generation.test_generation import engine, generator, sdk, served

__all__ = ["engine", "generator", "sdk", "served"]

CHAT = {"model": "stories", "messages": [{"role": "user", "content": "Once upon a time"}], "max_tokens": 4}


def lines(*bodies: dict[str, Any], url: str = "/v1/chat/completions") -> bytes:
    return b"".join(
        json.dumps({"custom_id": f"ask-{n}", "method": "POST", "url": url, "body": body}).encode() + b"\n"
        for n, body in enumerate(bodies, 1)
    )


def begun(sdk: Any, content: bytes, endpoint: Any = "/v1/chat/completions", **more: Any) -> Any:
    file = sdk.files.create(file=("ask.jsonl", content), purpose="batch")
    return sdk.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more)


def until(sdk: Any, batch: Any, *states: str) -> Any:
    deadline = time.monotonic() + 60
    while (found := sdk.batches.retrieve(batch.id)).status not in (states or tuple(ENDED)):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def answers(sdk: Any, file_id: str) -> dict[str, Any]:
    content = sdk.files.content(file_id).read()
    return {line["custom_id"]: line for line in map(json.loads, content.splitlines())}


def served_at(api: Api, endpoint: str | None) -> None:
    """None: nothing answers for the deployment."""
    with api.database.unit_of_work() as work:
        row = work.deployments.find(api.reach(), "stories")
        assert row is not None
        row.state, row.endpoint = "ready" if endpoint else "pending", endpoint


def change(api: Api, batch: Any, **values: Any) -> None:
    """Past the API, and by the database's clock."""
    with api.database.unit_of_work() as work:
        work.session.execute(update(BatchRow).where(BatchRow.id == key_of("batch", batch.id)).values(**values))


def test_a_file_of_requests_becomes_a_file_of_answers_and_one_of_errors(served: Api, sdk: Any) -> None:
    wrong = {**CHAT, "max_tokens": "many"}
    batch = begun(sdk, lines(CHAT, wrong, {**CHAT, "max_tokens": 2}), metadata={"team": "blue"})
    assert (batch.object, batch.status, batch.metadata) == ("batch", "validating", {"team": "blue"})
    done = until(sdk, batch)
    assert done.status == "completed", done
    assert done.request_counts.model_dump() == {"total": 3, "completed": 2, "failed": 1}
    assert done.in_progress_at and done.finalizing_at and done.completed_at
    assert done.model == "stories"
    given = answers(sdk, done.output_file_id)
    assert given.keys() == {"ask-1", "ask-3"}
    response = given["ask-1"]["response"]
    assert (response["status_code"], given["ask-1"]["error"]) == (200, None)
    direct = sdk.chat.completions.create(**CHAT, temperature=0)
    again = begun(sdk, lines({**CHAT, "temperature": 0}))
    told = answers(sdk, until(sdk, again).output_file_id)["ask-1"]["response"]["body"]
    assert told["choices"][0]["message"]["content"] == direct.choices[0].message.content
    (refused,) = answers(sdk, done.error_file_id).values()
    assert refused["response"]["status_code"] == 400
    assert refused["response"]["body"]["error"]["param"] == "max_tokens"
    assert sdk.files.retrieve(done.output_file_id).purpose == "batch_output"
    assert [one.id for one in sdk.batches.list(limit=1)] == [again.id, batch.id]
    with pytest.raises(openai.ConflictError):
        sdk.batches.cancel(batch.id)


def test_what_cannot_be_begun_fails_with_its_line(served: Api, sdk: Any) -> None:
    unknown = until(sdk, begun(sdk, lines(CHAT, {**CHAT, "model": "absent"})))
    other = until(sdk, begun(sdk, lines(CHAT), "/v1/completions"))
    assert (unknown.status, other.status) == ("failed", "failed")
    assert (unknown.errors.data[0].line, unknown.errors.data[0].code) == (2, "model_not_found")
    assert (other.errors.data[0].line, other.errors.data[0].param) == (1, "url")
    assert unknown.output_file_id is None
    rows = sdk.files.create(file=("rows.jsonl", b'{"a": 1}\n'), purpose="fine-tune")
    for file in (rows.id, "file-x"):
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h")
        assert refused.value.param == "input_file_id"
    with served.as_user(served.new_user("write")) as stranger:
        assert stranger.get(f"/v1/batches/{unknown.id}").status_code == 404
        assert stranger.post(f"/v1/batches/{unknown.id}/cancel").status_code == 404


def test_a_batch_that_another_process_takes_on_goes_on_behind_what_was_answered(
    served: Api, sdk: Any, engine: str
) -> None:
    served_at(served, None)
    batch = begun(sdk, lines(CHAT, CHAT))
    until(sdk, batch, "in_progress")
    with pytest.raises(openai.ConflictError, match="the batch batch_"):
        sdk.files.delete(batch.input_file_id)
    planted = {"custom_id": "ask-1", "response": None, "error": {"code": "planted"}}
    key = key_of("batch", batch.id)
    assert isinstance(key, UUID)
    with served.database.unit_of_work() as work:
        row = work.batches.find(served.reach(), key)
        assert row is not None
        fence = row.fence
        assert work.batches.answer(key, fence, 1, failed=False, document=json.dumps(planted))
    change(served, batch, lease_until=None, fence=BatchRow.fence + 1)
    with served.database.unit_of_work() as work:
        assert not work.batches.answer(key, fence, 2, failed=False, document="{}"), "it is somebody else's by now"
    served_at(served, engine)
    done = until(sdk, batch)
    assert done.request_counts.completed == 2
    given = answers(sdk, done.output_file_id)
    assert given["ask-1"] == planted
    assert given["ask-2"]["response"]["status_code"] == 200


def test_a_batch_is_cancelled_and_one_whose_window_is_over_tells_what_was_not_asked(served: Api, sdk: Any) -> None:
    served_at(served, None)
    ended, late = (begun(sdk, lines(*[CHAT] * count)) for count in (1, 2))
    for batch in (ended, late):
        until(sdk, batch, "in_progress")
    assert sdk.batches.cancel(ended.id).status == "cancelling"
    change(served, late, expires_at=func.clock_timestamp())
    cancelled, expired = until(sdk, ended), until(sdk, late)
    assert (cancelled.status, cancelled.output_file_id, cancelled.error_file_id) == ("cancelled", None, None)
    assert (expired.status, expired.output_file_id) == ("expired", None)
    assert {line["error"]["code"] for line in answers(sdk, expired.error_file_id).values()} == {"batch_expired"}
    assert sdk.files.delete(expired.input_file_id).deleted
