from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from eigenwerk import EigenwerkError
from eigenwerk.http.transport import RETRY_DELAYS_S
from tests.client.answering import Cut, Sleeps, client_of
from tests.client.documents import (
    JOB_ID,
    OTHER_ID,
    dataset,
    deployment,
    error,
    event,
    failed_job,
    job,
    model_version,
)


def test_submit_sends_the_token_and_one_key_for_all_attempts() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if len(seen) == 1:
            raise httpx.ReadError("connection reset", request=request)
        return httpx.Response(201, json=job())

    with client_of(handler) as client:
        assert client.submit({"kind": "train-classifier"}).id == JOB_ID
    assert [request.headers["Authorization"] for request in seen] == ["Bearer ew_secret"] * 2
    keys = {request.headers["Idempotency-Key"] for request in seen}
    assert len(keys) == 1
    assert len(keys.pop()) == 36


def test_a_refusal_carries_message_problems_and_status() -> None:
    problem = {"message": "unknown field.", "field": "training.epoch", "file": None, "row": None, "remedy": None}
    body = error("field training.epoch: unknown field.", "invalid_input", [problem])
    with client_of(lambda request: httpx.Response(422, json=body)) as client, pytest.raises(EigenwerkError) as caught:
        client.submit({})
    assert caught.value.status == 422
    assert caught.value.code == "invalid_input"
    assert caught.value.message == "field training.epoch: unknown field."
    assert caught.value.problems[0].field == "training.epoch"


def test_an_answer_that_is_not_the_platforms_is_said_to_be_so() -> None:
    with (
        client_of(lambda request: httpx.Response(404, text="<h1>nginx</h1>")) as client,
        pytest.raises(EigenwerkError, match="not as an Eigenwerk platform does"),
    ):
        client.jobs()


def test_a_call_that_may_be_repeated_is_repeated_while_a_part_is_away() -> None:
    answers = iter(
        [
            httpx.Response(503, json=error("The database does not answer.", "x"), headers={"Retry-After": "3"}),
            httpx.Response(200, json={"data": [], "has_more": False, "next_before": None}),
        ]
    )
    sleeps = Sleeps()
    with client_of(lambda request: next(answers), sleeps) as client:
        assert client.jobs() == []
    assert sleeps == [3.0]


def test_a_platform_that_stays_away_is_named_with_the_remedy() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    sleeps = Sleeps()
    with client_of(handler, sleeps) as client, pytest.raises(EigenwerkError, match="eigenwerk up") as caught:
        client.jobs()
    assert caught.value.status is None
    assert sleeps == list(RETRY_DELAYS_S)


def test_making_a_token_is_not_repeated() -> None:
    count = 0

    def handler(request: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        raise httpx.ReadError("reset", request=request)

    with client_of(handler) as client, pytest.raises(EigenwerkError):
        client.create_token(scopes=["read"])
    assert count == 1


def test_an_unready_deployment_is_reported_at_once() -> None:
    body = error("The deployment x is not ready (starting).", "deployment_not_ready")
    sleeps = Sleeps()
    with (
        client_of(lambda request: httpx.Response(503, json=body, headers={"Retry-After": "2"}), sleeps) as client,
        pytest.raises(EigenwerkError, match="not ready") as caught,
    ):
        client.classify("x", ["text"])
    assert caught.value.retry_after_s == 2
    assert not sleeps


def test_lists_are_read_page_by_page() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        before = request.url.params.get("before")
        data = [job(id=JOB_ID if before is None else OTHER_ID)]
        return httpx.Response(200, json={"data": data, "has_more": before is None, "next_before": 7})

    with client_of(handler) as client:
        assert [found.id for found in client.jobs(limit=10)] == [JOB_ID, OTHER_ID]


def test_a_prefix_names_a_job_only_when_it_names_one() -> None:
    page = {"data": [job(), job(id=OTHER_ID)], "has_more": False, "next_before": None}
    their_id = "99e4b1c6-5d0a-4f8e-9b3c-2a1d0e6f7c58"
    theirs = {**page, "data": [job(id=their_id)]}

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=theirs if "all" in request.url.params else page)

    with client_of(answer) as client:
        assert client.find_job_id("3f2A") == JOB_ID
        assert client.find_job_id(OTHER_ID.upper()) == OTHER_ID
        with pytest.raises(EigenwerkError, match="2 jobs") as caught:
            client.find_job_id("3f")
        assert JOB_ID in str(caught.value)
        assert OTHER_ID in str(caught.value)
        with pytest.raises(EigenwerkError, match=r"no job 99.*--all"):
            client.find_job_id("99")
        assert client.find_job_id("99", everybody=True) == their_id, "others' jobs are found when they are asked for"
        assert client.find_job_id(their_id) == their_id, "a whole id is nobody else's"


def test_watching_goes_on_behind_the_last_event_after_a_drop() -> None:
    first = event("1.0-0", "state", state="queued") + event("1.1-1", "stage", stage="train")
    # The last event is cut off: it comes again.
    torn = event("1.1-2", "stage", stage="validate")[:-4]
    rest = event("1.1-2", "stage", stage="validate") + ": keep-alive\n\n" + event("2.1-2", "end", state="succeeded")
    asked: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("Last-Event-ID"))
        if len(asked) == 1:
            return httpx.Response(200, stream=Cut(first.encode(), torn.encode()))
        if len(asked) == 2:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, text=rest)

    with client_of(handler) as client:
        ids = [item.id for item in client.watch(JOB_ID)]
    assert ids == ["1.0-0", "1.1-1", "1.1-2", "2.1-2"]
    assert asked == [None, "1.1-1", "1.1-1"]


def test_watching_ends_when_the_platform_refuses() -> None:
    with (
        client_of(lambda request: httpx.Response(404, json=error("There is no job.", "not_found"))) as client,
        pytest.raises(EigenwerkError, match="There is no job"),
    ):
        list(client.watch(JOB_ID))


def test_the_log_is_read_to_its_end() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.headers["Accept"] == "application/json"
        after = request.url.params.get("after")
        line = {"fence": 1, "number": 1, "at": "2026-03-01T12:00:00Z", "level": "info", "message": after or "first"}
        return httpx.Response(200, json={"data": [line], "has_more": after is None, "cursor": "1-1"})

    with client_of(handler) as client:
        assert [line.message for line in client.logs(JOB_ID)] == ["first", "1-1"]


def test_pushing_streams_the_file_again_after_a_drop(tmp_path: Path) -> None:
    path = tmp_path / "headlines.csv.gz"
    path.write_bytes(b"content")
    bodies: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(request.read())
        assert request.url.path == "/v1/datasets/headlines"
        assert request.url.params["file_name"] == "headlines.csv.gz"
        assert request.headers["Content-Length"] == "7"
        assert len(request.headers["X-Content-SHA256"]) == 64
        if len(bodies) == 1:
            raise httpx.WriteError("broken pipe", request=request)
        return httpx.Response(201, json=dataset())

    with client_of(handler) as client:
        assert client.push_dataset(path).reference == "admin/headlines@1"
    assert bodies == [b"content", b"content"]


def test_importing_sends_data_and_leaves_the_rest(tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / ".cache").mkdir()
    for name in (
        "config.json",
        "model.safetensors",
        "1_Pooling/config.json",
        "pytorch_model.bin",
        ".cache/x.json",
        "manifest.json",
    ):
        (tmp_path / name).write_bytes(name.encode())
    sent: dict[str, bytes] = {}

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            sent[request.url.path] = request.read()
            return httpx.Response(201, json={})
        if request.url.path.endswith("/complete"):
            return httpx.Response(201, json=model_version({}))
        assert json.loads(request.content) == {"name": "base"}
        return httpx.Response(201, json={"id": "i1", "name": "base"})

    with client_of(handler) as client:
        client.import_model(tmp_path, name="base")
    assert sent == {
        f"/v1/registry/imports/i1/files/{name}": name.encode()
        for name in ("1_Pooling/config.json", "config.json", "model.safetensors")
    }


def test_a_folder_without_safe_weights_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with (
        client_of(lambda request: httpx.Response(500)) as client,
        pytest.raises(EigenwerkError, match="save_pretrained"),
    ):
        client.import_model(tmp_path, name="base")


def test_a_deployment_is_awaited_until_it_is_ready_or_failed() -> None:
    states = iter(["pending", "starting", "ready"])
    with client_of(lambda request: httpx.Response(200, json=deployment(next(states)))) as client:
        assert client.await_deployment("newsticker-quality").state == "ready"
    failed = deployment("failed", reason="corrupt_artifact", message="model.safetensors")
    with (
        client_of(lambda request: httpx.Response(200, json=failed)) as client,
        pytest.raises(EigenwerkError, match="corrupt_artifact"),
    ):
        client.await_deployment("newsticker-quality")
    with (
        client_of(lambda request: httpx.Response(200, json=deployment("pending"))) as client,
        pytest.raises(EigenwerkError, match="not ready after 0 s"),
    ):
        client.await_deployment("newsticker-quality", timeout_s=0)


def test_fields_of_a_newer_server_are_kept() -> None:
    with client_of(lambda request: httpx.Response(200, json={**failed_job(), "colour": "blue"})) as client:
        found = client.job(JOB_ID)
    assert found.ended
    assert found.model_dump(mode="json")["colour"] == "blue"
