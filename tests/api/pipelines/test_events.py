"""The history of a pipeline and what happens next, as a stream and as pages; and the end of it all: deleting one."""

from __future__ import annotations

from typing import Any

import pytest

from eigenwerk.client import Client
from jobspecs.events import ProgressEvent
from jobspecs.lifecycle import JobState, Reason
from tests.api.conftest import Api
from tests.api.pipelines.test_pipelines import document, fail, go_on, submit, succeed, train
from tests.api.playing import HOST, record

CHAIN = document(first=train(), second=train("second", model="$first.model"))


def client_of(api: Api) -> Client:
    return Client(api.url, api.client.headers["Authorization"].removeprefix("Bearer "))


def told(events: Any) -> list[tuple[str, str | None, str]]:
    return [(event.type, event.data.get("step"), event.data["state"]) for event in events]


def test_every_change_is_told_once_and_in_order_and_whoever_comes_back_misses_nothing(ready: Api) -> None:
    pipeline = submit(ready, CHAIN)
    with client_of(ready) as client:
        events = client.pipeline_events(pipeline["id"])
        begun = [next(events)]
        steps = go_on(ready, pipeline)
        begun.append(next(events))
        assert begun[1].data["job_id"] == steps["first"]["job_id"]
        fail(ready, steps["first"])
        go_on(ready, pipeline)
        rest = list(client.pipeline_events(pipeline["id"], after=begun[-1].id))
        whole = list(client.pipeline_events(pipeline["id"]))
    assert told(begun) == [("state", None, "running"), ("step", "first", "running")]
    assert told(rest) == [
        ("step", "first", "failed"),
        ("step", "second", "skipped"),
        ("state", None, "failed"),
        ("end", None, "failed"),
    ]
    assert rest[0].data["reason"] == "job_failed" and "NaN" in rest[0].data["message"]
    assert told(whole) == told(begun) + told(rest)


def test_a_retry_goes_on_in_the_same_history(ready: Api) -> None:
    pipeline = submit(ready, CHAIN)
    fail(ready, go_on(ready, pipeline)["first"])
    go_on(ready, pipeline)
    path = f"/v1/pipelines/{pipeline['id']}"
    before = ready.client.get(f"{path}/events", params={"stream": "false"}).json()
    assert before["ended"] and not before["has_more"]
    ready.client.post(f"{path}/retry")
    after = {"stream": "false", "after": before["cursor"]}
    page = ready.client.get(f"{path}/events", params=after).json()
    assert [(event["data"]["step"], event["data"]["state"]) for event in page["data"]] == [
        (None, "running"),
        ("first", "waiting"),
        ("second", "waiting"),
    ]
    assert not page["ended"]
    one = ready.client.get(f"{path}/events", params={"stream": "false", "limit": 1}).json()
    assert (len(one["data"]), one["has_more"], one["ended"]) == (1, True, False)


def test_a_watcher_sees_how_far_a_running_step_is_and_the_pipeline_at_its_end(ready: Api) -> None:
    pipeline = submit(ready, document(first=train()))
    step = go_on(ready, pipeline)["first"]
    with client_of(ready) as client:
        watched = client.watch_pipeline(pipeline["id"])
        assert next(watched).steps[0].progress is None
        record(ready, {"id": step["job_id"]}, [ProgressEvent(stage="train", step=3, steps_total=9)])
        seen = next(watched)
        while seen.steps[0].progress is None:
            seen = next(watched)
        assert (seen.steps[0].progress.stage, seen.steps[0].progress.step) == ("train", 3)
        with ready.database.unit_of_work() as work:
            work.jobs.end_attempt(step["job_id"], reason=Reason.nan_loss, message="NaN", actor=f"host:{HOST}")
        go_on(ready, pipeline)
        *_, last = watched
        assert (last.state, last.steps[0].job_state) == ("failed", JobState.failed)


def test_others_and_cursors_that_are_none_are_refused(ready: Api) -> None:
    path = f"/v1/pipelines/{submit(ready, CHAIN)['id']}/events"
    assert ready.client.get(path, headers={"Last-Event-ID": "yesterday"}).status_code == 422
    with ready.as_user(ready.new_user()) as other:
        assert other.get(path).status_code == other.delete(path.removesuffix("/events")).status_code == 404


@pytest.mark.parametrize("asked", [1, 2])
def test_asking_for_the_end_again_is_no_news(ready: Api, asked: int) -> None:
    pipeline = submit(ready, CHAIN)
    for _ in range(asked):
        ready.client.post(f"/v1/pipelines/{pipeline['id']}/cancel")
    go_on(ready, pipeline)
    with client_of(ready) as client:
        states = [event.data["state"] for event in client.pipeline_events(pipeline["id"]) if event.type == "state"]
    assert states == ["running", "cancelling", "cancelled"]


def test_a_pipeline_that_has_ended_can_be_deleted_and_what_it_made_stays(ready: Api) -> None:
    pipeline = submit(ready, document(first=train()))
    path = f"/v1/pipelines/{pipeline['id']}"
    step = go_on(ready, pipeline)["first"]
    refused = ready.client.delete(path)
    assert refused.status_code == 409 and "eigenwerk pipelines cancel" in refused.text
    succeed(ready, step, accuracy=0.7)
    go_on(ready, pipeline)
    assert ready.client.delete(path).json() == {
        "object": "pipeline.deleted",
        "id": pipeline["id"],
        "name": "chain",
        "deleted": True,
    }
    assert ready.client.get(path).status_code == ready.client.get(f"{path}/events").status_code == 404
    assert ready.client.get(f"/v1/jobs/{step['job_id']}").json()["state"] == "succeeded"
    assert ready.client.get(f"/v1/registry/models/{ready.user}/first/versions/1").status_code == 200
