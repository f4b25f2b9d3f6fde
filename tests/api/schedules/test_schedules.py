"""Schedules, from the request to the job: checked when they are made, each time run once, whatever schedulers do."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from jobspecs.frozen import FrozenInputs
from jobspecs.lifecycle import JobState
from jobspecs.lineage import Lineage
from jobspecs.manifest import Manifest, ManifestFile
from storage.repositories.jobs.schedules import ScheduleRepository
from storage.tables import JobRow
from tests.api.conftest import SPEC, Api
from tests.api.playing import start
from workers.scheduler.pipelines.advancing import advance
from workers.scheduler.schedules.running import run_due

WEEKLY = {"name": "weekly", "cron": "0 9 * * 1", "time_zone": "Europe/Berlin", "spec": SPEC}


def made(api: Api, **changes: Any) -> Any:
    answer = api.client.post("/v1/schedules", json={**WEEKLY, **changes})
    assert answer.status_code == 201, answer.text
    return answer.json()


def come(api: Api, ago: timedelta = timedelta(seconds=1)) -> None:
    """The schedule's next time came so long ago."""
    with api.database.unit_of_work() as work:
        change = text("UPDATE schedules SET next_at = clock_timestamp() - :ago WHERE owner_id = :owner")
        work.session.execute(change, {"ago": ago, "owner": api.user_id()})


def due(api: Api) -> Sequence[Any]:
    with api.database.unit_of_work() as work:
        return [row.id for row in work.schedules.list(api.reach())]


def look(api: Api) -> None:
    run_due(api.database, due(api))


def seen(api: Api, name: str = "weekly") -> Any:
    return api.client.get(f"/v1/schedules/{name}").json()


def jobs(api: Api) -> list[Any]:
    data: list[Any] = api.client.get("/v1/jobs").json()["data"]
    return data


def test_a_schedule_shows_its_next_five_times_in_its_zone(ready: Api) -> None:
    schedule = made(ready)
    times = [datetime.fromisoformat(time) for time in schedule["next_times"]]
    assert len(times) == 5 and schedule["state"] == "active" and schedule["kind"] == "train-classifier"
    assert all(time.weekday() == 0 and time.hour in (7, 8) for time in times)
    assert [item["name"] for item in ready.client.get("/v1/schedules").json()["data"]] == ["weekly"]
    assert jobs(ready) == []


def test_a_time_that_has_come_queues_one_job_and_looks_again_at_the_next(ready: Api) -> None:
    schedule = made(ready)
    come(ready)
    look(ready)
    look(ready)
    (job,) = jobs(ready)
    (run,) = seen(ready)["runs"]
    assert run["job_id"] == job["id"] and run["refused"] is None
    assert seen(ready)["next_times"] == schedule["next_times"]
    with ready.database.unit_of_work() as work:
        first = work.jobs.transitions_after(job["id"])[0]
    assert first.actor == "schedule:weekly"


def test_of_many_schedulers_one_runs_each_time(ready: Api) -> None:
    made(ready)
    come(ready)
    ids = due(ready)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: run_due(ready.database, ids), range(12)))
    assert len(jobs(ready)) == len(seen(ready)["runs"]) == 1


def test_a_scheduler_that_dies_before_it_commits_has_run_nothing(ready: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    made(ready)
    come(ready)

    def die(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(ScheduleRepository, "go_on", die)
        look(ready)
    assert jobs(ready) == [] and seen(ready)["runs"] == []
    look(ready)
    assert len(jobs(ready)) == 1


@pytest.mark.parametrize(("missed", "count"), [("skip", 0), ("once", 1), ("all", 24)])
def test_missed_times_are_made_up_for_by_the_rule(ready: Api, missed: str, count: int) -> None:
    made(ready, cron="0 * * * *", missed=missed)
    come(ready, timedelta(days=3, minutes=30))
    with ready.database.unit_of_work() as work:
        minutes = work.schedules.now().minute
    look(ready)
    # Right after a full hour, that one has not been missed.
    assert len(jobs(ready)) in ((count, 1) if minutes in (0, 1) else (count,))


def test_a_version_that_is_not_named_is_the_one_of_then(ready: Api) -> None:
    made(ready)
    made(ready, name="fixed", spec={**SPEC, "dataset": "headlines@1", "model": "tiny@1"})
    ready.push(content="headline,quality\nnew,good\nold,bad\nnews,good\nolds,bad\n")
    ready.import_model(files={"config.json": b'{"model_type": "bert", "new": 1}'})
    come(ready)
    look(ready)
    used = {}
    for name in ("weekly", "fixed"):
        (run,) = seen(ready, name)["runs"]
        assert run["job_id"], run
        with ready.database.unit_of_work() as work:
            row = work.jobs.get(run["job_id"])
        assert row is not None
        used[name] = (row.inputs["dataset"]["version"], row.inputs["model"]["version"], row.inputs["checked"])
    assert used["weekly"] == (2, 2, False)
    assert used["fixed"][:2] == (1, 1)


def test_what_is_gone_is_noted_and_the_schedule_goes_on(ready: Api) -> None:
    made(ready)
    assert ready.client.delete("/v1/datasets/headlines/versions/1").status_code == 200
    come(ready)
    look(ready)
    (run,) = seen(ready)["runs"]
    assert run["job_id"] is None and "headlines" in run["refused"]
    ready.push()
    come(ready)
    look(ready)
    assert len(jobs(ready)) == 1


def test_a_pipeline_can_be_scheduled(ready: Api) -> None:
    steps = {"train": SPEC, "promote": {"kind": "alias", "model": "$train.model", "alias": "prod"}}
    steps["train"] = {key: value for key, value in SPEC.items() if key != "name"} | {"name": "made"}
    made(ready, spec={"kind": "pipeline", "name": "retrain", "steps": steps})
    ready.push(content="headline,quality\nnew,good\nold,bad\nnews,good\nolds,bad\n")
    come(ready)
    look(ready)
    (run,) = seen(ready)["runs"]
    assert run["refused"] is None
    pipeline = ready.client.get(f"/v1/pipelines/{run['pipeline_id']}").json()
    assert (pipeline["name"], pipeline["state"]) == ("retrain", "running")
    with ready.database.unit_of_work() as work:
        first = next(step for step in work.pipelines.steps(run["pipeline_id"]) if step.name == "train")
    assert first.inputs["frozen"]["dataset"]["version"] == 2


def test_an_alias_and_a_deployment_of_no_fixed_version_get_the_one_of_then(ready: Api) -> None:
    def register(letter: str) -> None:
        files = (ManifestFile(path="model.safetensors", bytes=1000, sha256=letter * 64),)
        manifest = Manifest(artifact="model", task="text-classification", files=files)
        with ready.database.unit_of_work() as work:
            work.models.add_version(ready.user_id(), "sorter", manifest=manifest, prefix=f"artifacts/{uuid4()}")

    register("1")
    steps = {
        "promote": {"kind": "alias", "model": "sorter", "alias": "prod"},
        "serve": {"kind": "deploy", "name": "sorting", "model": "sorter"},
        "pin": {"kind": "alias", "model": "sorter@1", "alias": "first"},
    }
    made(ready, spec={"kind": "pipeline", "name": "put", "steps": steps})
    register("2")
    come(ready)
    look(ready)
    (run,) = seen(ready)["runs"]
    advance(ready.database, run["pipeline_id"])
    model = ready.client.get(f"/v1/registry/models/{ready.user}/sorter").json()
    assert model["aliases"] == {"prod": 2, "first": 1}
    assert ready.client.get("/v1/deployments/sorting").json()["version"] == 2


def test_what_a_schedule_submitted_names_it_and_the_time(ready: Api) -> None:
    made(ready, spec=SPEC)
    spec = {"kind": "pipeline", "name": "retrain", "steps": {"train": SPEC}}
    made(ready, name="row", spec=spec)
    come(ready)
    look(ready)
    row = seen(ready, "row")
    advance(ready.database, row["runs"][0]["pipeline_id"])
    found = [ready.client.get(f"/v1/jobs/{job['id']}").json() for job in jobs(ready)]
    assert sorted(job["schedule"]["name"] for job in found) == ["row", "weekly"]
    of_step = next(job for job in found if job["pipeline"] is not None)
    assert of_step["schedule"] == {"id": row["id"], "name": "row", "due_at": row["runs"][0]["due_at"]}
    start(ready, of_step)
    with ready.database.unit_of_work() as work:
        job = work.session.get_one(JobRow, of_step["id"])
        lineage = Lineage.of_job(job.kind, job.spec, FrozenInputs.model_validate(job.inputs))
        work.jobs.transition(job.id, JobState.uploading, actor="host:host-1")
        file = ManifestFile(path="model.safetensors", bytes=1, sha256="3" * 64)
        manifest = Manifest(artifact="model", files=(file,))
        work.models.add_version(job.owner_id, job.name, manifest=manifest, prefix="artifacts/x", lineage=lineage)
    found_lineage = ready.client.get(f"/v1/registry/models/{ready.user}/{SPEC['name']}/versions/1/lineage").json()
    assert (found_lineage["schedule"]["name"], found_lineage["pipeline"]["step"]) == ("row", "train")


def test_a_paused_schedule_runs_nothing_and_makes_up_for_nothing(ready: Api) -> None:
    made(ready, missed="all")
    paused = ready.client.post("/v1/schedules/weekly/pause").json()
    assert (paused["state"], paused["next_times"]) == ("paused", [])
    come(ready)
    look(ready)
    resumed = ready.client.post("/v1/schedules/weekly/resume").json()
    assert resumed["state"] == "active" and len(resumed["next_times"]) == 5
    look(ready)
    assert jobs(ready) == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "* * * * * *"}, "cron"),
        ({"time_zone": "Europe/Atlantis"}, "time_zone"),
        ({"missed": "twice"}, "missed"),
        ({"name": "a b"}, "name"),
        ({"spec": {**SPEC, "dataset": "nothing"}}, "spec.dataset"),
        ({"spec": {**SPEC, "label": "nothing"}}, "spec.label"),
        ({"spec": {"kind": "dance"}}, "spec.kind"),
        ({"spec": {"kind": "pipeline", "name": "x", "steps": {"a": {"kind": "dance"}}}}, "spec.steps.a.kind"),
    ],
)
def test_what_could_never_run_is_refused_with_its_field(ready: Api, changes: dict[str, Any], field: str) -> None:
    answer = ready.client.post("/v1/schedules", json={**WEEKLY, **changes})
    assert answer.status_code == 422, answer.text
    assert field in [problem["field"] for problem in answer.json()["error"]["problems"]]
    assert ready.client.get("/v1/schedules").json()["data"] == []


def test_a_schedule_is_its_owners_alone_and_its_name_is_taken_once(ready: Api) -> None:
    made(ready)
    assert ready.client.post("/v1/schedules", json=WEEKLY).status_code == 409
    with ready.as_user(ready.new_user()) as other:
        assert other.get("/v1/schedules").json()["data"] == []
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume")):
            assert other.request(method, f"/v1/schedules/weekly{path}").status_code == 404
    assert ready.client.delete("/v1/schedules/weekly").status_code == 204
    assert ready.client.get("/v1/schedules/weekly").status_code == 404


def test_a_deleted_users_schedules_stop(api: Api) -> None:
    name = f"gone-{uuid4().hex[:6]}"
    with api.as_user(api.new_user(name=name)) as client:
        mine = Api(api.url, api.settings, name, client, api.admin, api.database)
        mine.push()
        mine.import_model()
        made(mine)
        owner_id = mine.user_id()
    assert api.admin.delete(f"/v1/users/{name}", params={"delete_things": True}).status_code in (202, 204)
    with api.database.unit_of_work() as work:
        counted = text("SELECT count(*) FROM schedules WHERE owner_id = :owner")
        assert work.session.scalar(counted, {"owner": owner_id}) == 0
