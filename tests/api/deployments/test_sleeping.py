"""Deployments that sleep, seen by those who ask them; the tests play the inference worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.inference.activity import Activity
from storage.tables import DeploymentRow, HostRow
from tests.api.conftest import Api, RunApi
from tests.api.deployments.test_deployments import KEY, classify, engine, report, trained

__all__ = ["engine", "trained"]

LONG_AGO = datetime.now(UTC) - timedelta(days=1)


@pytest.fixture
def asleep(trained: Api, engine: str) -> Iterator[Api]:
    """Its user's deployment has been ready, took 7 s to start, and sleeps."""
    assert trained.client.put("/v1/deployments/quality", json={"idle_after_s": 600}).status_code == 202
    report(trained, state="ready", endpoint=engine, endpoint_key=KEY, start_seconds=[9.0, 5.0, 7.0])
    assert classify(trained).status_code == 200
    assert trained.client.post("/v1/deployments/quality/sleep").status_code == 202
    lay_down(trained)
    yield trained
    with trained.database.unit_of_work() as work:
        work.session.query(HostRow).filter_by(name="narrow").delete()


def row_of(api: Api) -> DeploymentRow:
    with api.database.unit_of_work() as work:
        row = work.deployments.find(api.reach(), "quality")
    assert row is not None
    return row


def lay_down(api: Api) -> None:
    with api.database.unit_of_work() as work:
        work.sleep.lay_down(row_of(api).id, "host-1")


def seen(api: Api) -> Any:
    return api.client.get("/v1/deployments/quality").json()


def eventually(check: Any) -> None:
    deadline = time.monotonic() + 30
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start(api: Api, endpoint: str) -> None:
    """What a host does with what was woken."""
    with api.database.unit_of_work() as work:
        row = work.deployments.find(api.reach(), "quality")
        assert row is not None
        row.host, row.claimed_at = "host-1", datetime.now(UTC)
        work.session.flush()
        ready = {"state": "ready", "endpoint": endpoint, "endpoint_key": KEY}
        assert work.deployments.report(row.id, "host-1", row.generation, **ready)


def test_many_requests_wake_what_sleeps_once_and_wait_until_it_answers(asleep: Api, engine: str) -> None:
    assert seen(asleep)["state"] == "asleep"
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(classify, asleep) for _ in range(8)]
        eventually(lambda: not row_of(asleep).sleeping)
        woken_at = row_of(asleep).woken_at
        assert seen(asleep)["state"] == "pending"
        time.sleep(0.3)
        assert row_of(asleep).woken_at == woken_at
        assert not any(request.done() for request in asking)
        start(asleep, engine)
        answers = [request.result() for request in asking]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["X-Expected-Wait-S"] for answer in answers} == {"7"}
    assert "X-Expected-Wait-S" not in classify(asleep).headers
    assert len(row_of(asleep).start_seconds) == 4


def test_who_has_waited_long_enough_is_told_when_to_come_again_and_why(asleep: Api, run_api: RunApi) -> None:
    with asleep.database.unit_of_work() as work:
        work.hosts.announce_serving("narrow", memory_bytes=1 << 28, gpus=0, engines={"embedded": {"version": "1"}})
    with run_api(wake_wait_s=0.2) as impatient:
        headers = {"Authorization": asleep.client.headers["Authorization"]}
        answer = impatient.client.post("/v1/classify", json={"model": "quality", "input": "x"}, headers=headers)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "deployment_waking"
    assert "narrow has 0.25 GiB" in answer.json()["error"]["message"]
    assert (answer.headers["Retry-After"], answer.headers["X-Expected-Wait-S"]) == ("7", "7")
    found = seen(asleep)
    assert (found["state"], found["reason"]) == ("pending", "waits_for_room")
    assert "narrow has 0.25 GiB" in found["message"]


def test_one_whose_start_fails_keeps_nobody_waiting(asleep: Api) -> None:
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(classify, asleep)
        eventually(lambda: not row_of(asleep).sleeping)
        report(asleep, state="failed", reason="crashed", message="It crashed.", woken_at=None)
        answer = asking.result()
    assert answer.status_code == 503
    assert "It crashed." in answer.json()["error"]["message"]


def test_it_is_woken_by_hand_and_by_deploying_it_again(asleep: Api) -> None:
    generation = row_of(asleep).generation
    assert asleep.client.post("/v1/deployments/quality/wake").json()["state"] == "pending"
    assert asleep.client.post("/v1/deployments/quality/sleep").json()["state"] == "asleep"
    again = asleep.client.put("/v1/deployments/quality", json={"idle_after_s": 1200}).json()
    assert (again["state"], again["idle_after_s"], again["expected_start_s"]) == ("pending", 1200, 7.0)
    assert row_of(asleep).generation == generation, "nothing is started anew for another patience"
    for unknown in ("sleep", "wake"):
        assert asleep.client.post(f"/v1/deployments/other/{unknown}").status_code == 404


def test_one_that_is_put_to_sleep_answers_whoever_is_on_the_way_and_then_nobody(trained: Api, engine: str) -> None:
    trained.client.put("/v1/deployments/quality")
    report(trained, state="ready", endpoint=engine, endpoint_key=KEY)
    trained.client.post("/v1/deployments/quality/sleep")
    assert not row_of(trained).answers
    assert classify(trained).status_code == 200, "it had not begun to sleep: a request ends that"
    assert row_of(trained).woken_at is None
    assert row_of(trained).answers


def test_what_is_asked_is_written_down_together_and_as_long_as_it_is_in_hand(asleep: Api) -> None:
    key, activity = row_of(asleep).id, Activity(asleep.database)

    def used_since_writing() -> bool:
        with asleep.database.unit_of_work() as work:
            work.session.query(DeploymentRow).filter_by(id=key).update({"last_used_at": LONG_AGO})
        asyncio.run(activity.write())
        return row_of(asleep).last_used_at != LONG_AGO

    for _ in range(100):
        with activity.of([key]):
            pass
    assert row_of(asleep).last_used_at != LONG_AGO
    assert used_since_writing()
    assert not used_since_writing()
    with activity.of([key]):
        assert used_since_writing()
        assert used_since_writing(), "its answer takes long"
    assert used_since_writing(), "until its end"
    assert not used_since_writing()
    with activity.of([]):
        assert not used_since_writing(), "nobody asks after it"


def test_a_candidate_sleeps_and_wakes_with_its_deployment(trained: Api, engine: str) -> None:
    trained.client.put("/v1/deployments/quality", json={"model": "quality@1", "idle_after_s": 600})
    report(trained, state="ready", endpoint=engine, endpoint_key=KEY)
    beside = {"model": "quality@2", "traffic_percent": 50}
    assert trained.client.put("/v1/deployments/quality", json={**beside, "idle_after_s": 60}).status_code == 422
    assert trained.client.put("/v1/deployments/quality", json=beside).status_code == 202

    def both() -> list[tuple[bool, int | None]]:
        with trained.database.unit_of_work() as work:
            shares, candidate = work.candidates.find_with(trained.reach(), "quality")
        return [(row.sleeping, row.idle_after_s) for row in (*shares, *candidate)]

    assert both() == [(False, 600), (False, 600)]
    trained.client.post("/v1/deployments/quality/sleep")
    assert both() == [(True, 600), (True, 600)]
    trained.client.post("/v1/deployments/quality/wake")
    assert both() == [(False, 600), (False, 600)]
