from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from jobspecs.events import LogEvent, ProgressEvent
from jobspecs.lifecycle import JobState
from jobspecs.manifest import Manifest
from tests.api.conftest import SPEC, Api, RunApi
from tests.api.playing import finish, give_back, record, start


def test_a_submitted_job_is_queued_and_its_references_are_frozen(ready: Api) -> None:
    answer = ready.client.post("/v1/jobs", json=SPEC)
    job = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert job["state"] == "queued"
    inputs: dict[str, object] = {
        "dataset": f"{ready.user}/headlines@1",
        "model": f"{ready.user}/tiny@1",
        "models": {},
        "held_out": None,
        "test": None,
    }
    assert job["inputs"] == inputs
    assert job["slots"] == 1
    assert job["memory_bytes"] > 2**30
    assert [step["state"] for step in job["transitions"]] == ["queued"]
    with ready.database.unit_of_work() as work:
        row = work.jobs.get(UUID(job["id"]))
        assert row is not None
        assert row.inputs["model"]["files"]


def test_the_same_idempotency_key_gives_the_earlier_job(ready: Api) -> None:
    headers = {"Idempotency-Key": "once"}
    first = ready.client.post("/v1/jobs", json=SPEC, headers=headers)
    again = ready.client.post("/v1/jobs", json=dict(reversed(SPEC.items())), headers=headers)
    other = ready.client.post("/v1/jobs", json={**SPEC, "priority": 1}, headers=headers)
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert first.json()["id"] == again.json()["id"]
    assert other.json()["error"]["code"] == "idempotency_key_reused"


def test_the_keys_of_two_users_do_not_meet(ready: Api) -> None:
    token = ready.new_user()
    headers = {"Idempotency-Key": "once"}
    assert ready.client.post("/v1/jobs", json=SPEC, headers=headers).status_code == 201
    with ready.as_user(token) as berta:
        refused = berta.post("/v1/jobs", json=SPEC, headers=headers)
    assert refused.status_code == 422
    assert "you have no data set" in refused.json()["error"]["message"]


def test_a_queued_job_is_paused_at_once_and_a_running_one_when_its_host_has_stopped_it(ready: Api) -> None:
    job = ready.submit()
    path = f"/v1/jobs/{job['id']}"
    paused = [ready.client.post(f"{path}/pause") for _ in range(2)]
    assert [(answer.status_code, answer.json()["state"]) for answer in paused] == [(200, "paused")] * 2
    assert "eigenwerk resume" in paused[0].json()["remedy"]
    assert ready.client.delete(path).json()["error"]["code"] == "job_active"
    resumed = [ready.client.post(f"{path}/resume") for _ in range(2)]
    assert [(answer.status_code, answer.json()["state"]) for answer in resumed] == [(200, "queued")] * 2
    start(ready, job)
    assert ready.client.post(f"{path}/pause").json()["state"] == "pausing"
    assert ready.client.post(f"{path}/resume").json()["state"] == "preempting", "it will be queued again at once"
    assert ready.client.post(f"{path}/pause").json()["state"] == "pausing"
    give_back(ready, job)
    assert ready.client.get(path).json()["state"] == "paused"
    assert ready.client.post(f"{path}/cancel").json()["state"] == "cancelled"
    refused = [ready.client.post(f"{path}/{what}") for what in ("pause", "resume")]
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in refused] == [(409, "job_ended")] * 2


REFUSED: list[tuple[dict[str, object], str, str]] = [
    ({"text": "title"}, "text", "has no column 'title'"),
    ({"label": "headline"}, "label", "same column"),
    ({"model": "absent"}, "model", "no model absent"),
    ({"model": "tiny@2"}, "model", "no model tiny@2"),
    ({"dataset": "absent"}, "dataset", "no data set absent"),
    ({"dataset": "berta/headlines"}, "dataset", "no data set berta/headlines"),
    ({"modle": "tiny"}, "modle", "unknown field"),
    ({"training": {"epochs": "many"}}, "training.epochs", "number"),
    ({"kind": "train-everything"}, "kind", "no job kind"),
    ({"model": "hub:org/name"}, "model", "without a model hub"),
]


def test_a_spec_that_cannot_work_is_refused_and_nothing_is_queued(ready: Api) -> None:
    for change, field, words in REFUSED:
        answer = ready.client.post("/v1/jobs", json={**SPEC, **change})
        error = answer.json()["error"]
        assert answer.status_code == 422, error
        assert error["param"] == field
        assert error["problems"][0]["field"] == field
        assert words in error["message"]
    assert ready.client.get("/v1/jobs").json()["data"] == []


def test_a_data_set_of_one_class_is_refused_at_submit(ready: Api) -> None:
    ready.push("single", "headline,quality\none,good\ntwo,good\n")
    answer = ready.client.post("/v1/jobs", json={**SPEC, "dataset": "single"})
    assert answer.status_code == 422
    assert "one class only" in answer.json()["error"]["message"]


def test_resources_of_the_spec_go_before_the_estimate(ready: Api) -> None:
    assert ready.submit(resources={"memory_gib": 1.5})["memory_bytes"] == int(1.5 * 2**30)


def test_jobs_are_listed_newest_first_in_pages(ready: Api) -> None:
    ids = [ready.submit()["id"] for _ in range(5)]
    first = ready.client.get("/v1/jobs", params={"limit": 2}).json()
    second = ready.client.get("/v1/jobs", params={"limit": 2, "before": first["next_before"]}).json()
    third = ready.client.get("/v1/jobs", params={"limit": 2, "before": second["next_before"]}).json()
    assert [job["id"] for page in (first, second, third) for job in page["data"]] == ids[::-1]
    assert (first["has_more"], third["has_more"], third["next_before"]) == (True, False, None)


def test_a_list_can_be_limited_to_states(ready: Api) -> None:
    kept, gone = ready.submit(), ready.submit()
    ready.client.post(f"/v1/jobs/{gone['id']}/cancel")
    queued = ready.client.get("/v1/jobs", params={"state": "queued"}).json()["data"]
    both = ready.client.get("/v1/jobs", params={"state": ["queued", "cancelled"]}).json()["data"]
    assert [job["id"] for job in queued] == [kept["id"]]
    assert len(both) == 2
    assert ready.client.get("/v1/jobs", params={"state": "lost"}).status_code == 422


def test_a_queued_job_is_cancelled_at_once_and_only_once(ready: Api) -> None:
    job = ready.submit()
    answer = ready.client.post(f"/v1/jobs/{job['id']}/cancel")
    assert answer.json()["state"] == "cancelled"
    assert answer.json()["remedy"]
    again = ready.client.post(f"/v1/jobs/{job['id']}/cancel")
    assert again.status_code == 409
    assert again.json()["error"]["code"] == "job_ended"


def test_an_active_job_is_asked_to_stop(ready: Api) -> None:
    job = ready.submit()
    with ready.database.unit_of_work() as work:
        assert work.jobs.assign(UUID(job["id"]), "host-1", lease_s=60)
    assert ready.client.post(f"/v1/jobs/{job['id']}/cancel").json()["state"] == "cancelling"
    assert ready.client.post(f"/v1/jobs/{job['id']}/cancel").json()["state"] == "cancelling"


def test_a_job_shows_its_progress_and_then_its_result(ready: Api) -> None:
    job = ready.submit()
    record(ready, job, [ProgressEvent(stage="train", step=3, steps_total=10, loss=0.5)])
    running = ready.client.get(f"/v1/jobs/{job['id']}").json()
    assert running["progress"]["step"] == 3
    assert running["result"] is None
    finish(ready, job, Manifest(artifact="model", files=(), metrics={"validation/accuracy": 0.9}, report={"rows": 20}))
    ended = ready.client.get(f"/v1/jobs/{job['id']}").json()
    assert ended["state"] == "succeeded"
    assert ended["result"]["model"] == f"{ready.user}/headline-quality@1"
    assert ended["result"]["metrics"] == {"validation/accuracy": 0.9}
    assert ended["result"]["report"] == {"rows": 20}
    assert ended["attempts"] == 1


def test_logs_come_as_text_or_as_json_and_continue_behind_the_cursor(ready: Api) -> None:
    job = ready.submit()
    record(ready, job, [LogEvent(message=f"line {i}") for i in range(1, 6)])
    url = f"/v1/jobs/{job['id']}/logs"
    first = ready.client.get(url, params={"limit": 3})
    assert first.headers["Content-Type"].startswith("text/plain")
    assert [line.rpartition("info ")[2] for line in first.text.splitlines()] == ["line 1", "line 2", "line 3"]
    assert first.headers["X-Has-More"] == "true"
    rest = ready.client.get(
        url, params={"after": first.headers["X-Cursor"]}, headers={"Accept": "application/json"}
    ).json()
    assert [line["message"] for line in rest["data"]] == ["line 4", "line 5"]
    assert rest["has_more"] is False
    nothing = ready.client.get(url, params={"after": rest["cursor"]})
    assert nothing.text == ""
    assert nothing.headers["X-Cursor"] == rest["cursor"]
    assert ready.client.get(url, params={"after": "yesterday"}).status_code == 422


def test_another_user_sees_no_job_of_mine(ready: Api) -> None:
    job = ready.submit()
    with ready.as_user(ready.new_user()) as berta:
        for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/events"), ("GET", "/logs")):
            assert berta.request(method, f"/v1/jobs/{job['id']}{path}").status_code == 404
        assert berta.get("/v1/jobs").json()["data"] == []
    with ready.database.unit_of_work() as work:
        row = work.jobs.get(UUID(job["id"]))
        assert row is not None
        assert row.state == JobState.queued


def test_a_submission_does_not_need_redis_or_the_object_store(run_api: RunApi, ready: Api) -> None:
    away = replace(ready.settings.storage, redis_url="redis://127.0.0.1:1/0", s3_endpoint="http://127.0.0.1:1")
    token = ready.client.post("/v1/users/me/tokens", json={"scopes": ["write"]}).json()["token"]
    with run_api(storage=away) as other, other.as_user(token) as client:
        assert client.post("/v1/jobs", json=SPEC).status_code == 201


def test_events_of_the_wrong_kind_do_not_appear_in_logs(ready: Api) -> None:
    job = ready.submit()
    record(ready, job, [ProgressEvent(stage="train", step=1, steps_total=2), LogEvent(message="only this")])
    assert ready.client.get(f"/v1/jobs/{job['id']}/logs").text.endswith("info only this\n")


def test_a_job_that_no_host_could_ever_take_is_refused(ready: Api) -> None:
    with ready.database.unit_of_work() as work:
        work.hosts.announce("largest", slots=1, memory_bytes=2**50, gpus=1, accepting=True)
    refused = ready.client.post("/v1/jobs", json={**SPEC, "resources": {"gpus": 2}})
    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == "resources.gpus"
    assert ready.client.get("/v1/jobs").json()["data"] == []


def test_several_gpus_are_for_kinds_that_can_use_them(ready: Api) -> None:
    with ready.database.unit_of_work() as work:
        work.hosts.announce("large", slots=1, memory_bytes=2**50, gpus=8, accepting=True)
    refused = ready.client.post("/v1/jobs", json={**SPEC, "resources": {"gpus": 2}})
    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == "resources.gpus"
    assert "trains on one GPU" in refused.json()["error"]["message"]
