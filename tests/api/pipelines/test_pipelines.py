"""Pipelines over HTTP. The scheduler's part is done by the scheduler's own code, the worker's is played."""

from __future__ import annotations

import secrets
from typing import Any
from xml.etree import ElementTree

import pytest

from jobspecs.lifecycle import JobState, Reason
from jobspecs.manifest import Manifest, ManifestFile
from tests.api.conftest import SPEC, Api
from tests.api.playing import HOST, finish, start
from workers.run.code_version import CODE, code_digest
from workers.scheduler.pipelines.advancing import advance_all

ALIAS = {"kind": "alias", "model": "$train.model", "alias": "prod"}
BETTER = "not $prod.exists or $train.accuracy.low > $prod.accuracy.high"


def document(**steps: Any) -> dict[str, Any]:
    return {"kind": "pipeline", "name": "chain", "steps": steps}


def train(name: str = "first", **changes: Any) -> dict[str, Any]:
    return {**SPEC, "name": name, **changes}


def submit(api: Api, sent: dict[str, Any], **more: Any) -> Any:
    answer = api.client.post("/v1/pipelines", json=sent, **more)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def go_on(api: Api, pipeline: Any) -> dict[str, Any]:
    """What the scheduler does; the steps by name."""
    with api.database.unit_of_work() as work:
        due = work.pipelines.due(1000)
    advance_all(api.database, due)
    return steps_of(api, pipeline)


def steps_of(api: Api, pipeline: Any) -> dict[str, Any]:
    shown = api.client.get(f"/v1/pipelines/{pipeline['id']}").json()
    return {step["name"]: step for step in shown["steps"]}


def state_of(api: Api, pipeline: Any) -> str:
    return str(api.client.get(f"/v1/pipelines/{pipeline['id']}").json()["state"])


def succeed(api: Api, step: Any, **metrics: float) -> None:
    """The step's job trains a model with these figures."""
    job = {"id": step["job_id"]}
    start(api, job)
    file = ManifestFile(path="model.safetensors", bytes=1, sha256=secrets.token_hex(32))
    measured = {f"validation/{name}": value for name, value in metrics.items()}
    made = Manifest(
        artifact="model",
        task="text-classification",
        files=(file,),
        metrics=measured,
        versions={CODE: code_digest()},
    )
    finish(api, job, made, prefix=f"artifacts/{step['job_id']}/1")


def fail(api: Api, step: Any) -> None:
    job = {"id": step["job_id"]}
    start(api, job)
    with api.database.unit_of_work() as work:
        done = work.jobs.end_attempt(step["job_id"], reason=Reason.nan_loss, message="NaN", actor=f"host:{HOST}")
        assert done is not None and done.state == JobState.failed


def test_a_step_begins_when_what_it_reads_is_there_and_reads_exactly_that(ready: Api) -> None:
    pipeline = submit(ready, document(second=train("second", model="$first.model"), first=train()))
    steps = go_on(ready, pipeline)
    assert (steps["first"]["state"], steps["second"]["state"]) == ("running", "waiting")
    succeed(ready, steps["first"], accuracy=0.5)
    steps = go_on(ready, pipeline)
    made = steps["first"]["result"]["reference"]
    assert made == f"{ready.user}/first@1"
    job = ready.client.get(f"/v1/jobs/{steps['second']['job_id']}").json()
    assert (job["spec"]["model"], job["inputs"]["model"]) == (made, made)
    assert job["pipeline"] == {"id": pipeline["id"], "name": "chain", "step": "second"}
    succeed(ready, steps["second"])
    assert go_on(ready, pipeline)["second"]["state"] == "succeeded"
    assert state_of(ready, pipeline) == "succeeded"


@pytest.mark.parametrize(("low", "moves"), [(0.7, True), (0.5, False)])
def test_an_alias_moves_to_a_better_model_and_never_to_a_worse_one(ready: Api, low: float, moves: bool) -> None:
    sent = {**document(train=train(), promote={**ALIAS, "when": BETTER}), "models": {"prod": "first@prod"}}
    for accuracy_low, expected in ((0.5, 1), (low, 2 if moves else 1)):
        pipeline = submit(ready, sent)
        succeed(ready, go_on(ready, pipeline)["train"], accuracy_low=accuracy_low, accuracy_high=0.6)
        promote = go_on(ready, pipeline)["promote"]
        assert state_of(ready, pipeline) == "succeeded"
        alias = ready.client.get(f"/v1/registry/models/{ready.user}/first/aliases/prod").json()
        assert alias["version"] == expected
    assert promote["figures"] == {"$prod.exists": True, "$train.accuracy.low": low, "$prod.accuracy.high": 0.6}
    assert (promote["state"], promote["reason"]) == (("succeeded", None) if moves else ("skipped", "condition_false"))
    assert alias["moves"][0]["actor"] == "pipeline:chain"


def test_what_depends_on_a_failure_is_left_out_and_the_rest_goes_on_until_it_is_retried(ready: Api) -> None:
    below = train("below", model="$bad.model")
    pipeline = submit(
        ready, document(bad=train("bad"), good=train("good"), below=below, after={**ALIAS, "model": "$below.model"})
    )
    steps = go_on(ready, pipeline)
    fail(ready, steps["bad"])
    steps = go_on(ready, pipeline)
    assert [steps[name]["state"] for name in ("bad", "good", "below")] == ["failed", "running", "skipped"]
    assert (steps["below"]["reason"], steps["after"]["reason"]) == ("needs_failed", "needs_skipped")
    succeed(ready, steps["good"])
    go_on(ready, pipeline)
    assert state_of(ready, pipeline) == "failed"
    assert ready.client.post(f"/v1/pipelines/{pipeline['id']}/retry").status_code == 200
    again = go_on(ready, pipeline)
    assert again["good"] == {
        **steps["good"],
        **{key: again["good"][key] for key in ("state", "result", "job_state", "progress", "finished_at")},
    }
    job = ready.client.get(f"/v1/jobs/{again['bad']['job_id']}").json()
    assert job["retry_of"] == steps["bad"]["job_id"]
    succeed(ready, again["bad"])
    succeed(ready, go_on(ready, pipeline)["below"])
    assert {step["state"] for step in go_on(ready, pipeline).values()} == {"succeeded"}
    assert state_of(ready, pipeline) == "succeeded"
    assert ready.client.post(f"/v1/pipelines/{pipeline['id']}/retry").status_code == 409


def test_a_cancelled_pipeline_begins_nothing_and_ends_what_runs(ready: Api) -> None:
    pipeline = submit(ready, document(first=train(), second=train("second", model="$first.model")))
    running = go_on(ready, pipeline)["first"]
    start(ready, {"id": running["job_id"]})
    assert ready.client.post(f"/v1/pipelines/{pipeline['id']}/cancel").json()["state"] == "cancelling"
    steps = go_on(ready, pipeline)
    assert (steps["first"]["job_state"], steps["second"]["state"]) == ("cancelling", "cancelled")
    with ready.database.unit_of_work() as work:
        work.jobs.end_attempt(running["job_id"], reason=Reason.cancelled_by_user, message="", actor="host")
    assert go_on(ready, pipeline)["first"]["state"] == "cancelled"
    assert state_of(ready, pipeline) == "cancelled"
    assert ready.client.post(f"/v1/pipelines/{pipeline['id']}/cancel").status_code == 409


def test_everything_that_is_wrong_is_told_with_its_field_and_nothing_is_queued(ready: Api) -> None:
    sent = document(
        first=train(text="nothing"),
        second=train("second", model="nowhere"),
        third={**ALIAS, "model": "tiny", "when": "$prod.accuracy > 1"},
        fourth={"kind": "deploy", "name": "x", "model": "tiny"},
    )
    answer = ready.client.post("/v1/pipelines", json={**sent, "models": {"prod": "first@prod"}})
    assert answer.status_code == 422
    problems = {problem["field"]: problem["message"] for problem in answer.json()["error"]["problems"]}
    assert problems["steps.first.text"] == "the data set has no column 'nothing'."
    assert problems["steps.second.model"] == "you have no model nowhere."
    assert problems["models.prod"] == "you have no model first@prod."
    assert "is a bare model without a head" in problems["steps.fourth.model"]
    assert ready.client.get("/v1/pipelines").json()["data"] == []
    assert ready.client.get("/v1/jobs").json()["data"] == []


def test_a_condition_compares_only_what_a_model_has_measured(ready: Api) -> None:
    sent = {
        **document(first=train(), alias={**ALIAS, "model": "$first.model", "when": "$prod.mrr > 0"}),
        "models": {"prod": "tiny"},
    }
    answer = ready.client.post("/v1/pipelines", json=sent)
    assert [problem["field"] for problem in answer.json()["error"]["problems"]] == ["steps.alias.when"]


def test_a_check_estimates_the_whole_and_queues_nothing(ready: Api) -> None:
    score = {
        "kind": "score-pairs",
        "name": "scored",
        "teacher": "$first.model",
        "dataset": "headlines",
        "pair": ["headline", "quality"],
    }
    third = train("third", dataset="$score.dataset", label="score")
    forecast = ready.client.post("/v1/pipelines/check", json=document(first=train(), score=score, third=third)).json()
    first, *_ = forecast["steps"]
    assert [step["estimate"]["kind"] for step in forecast["steps"]] == [
        "train-classifier",
        "score-pairs",
        "train-classifier",
    ]
    assert forecast["work"]["high_s"] >= forecast["duration"]["high_s"] > first["estimate"]["duration"]["high_s"]
    assert ready.client.get("/v1/pipelines").json()["data"] == []
    answer = ready.client.post(
        "/v1/pipelines/check", json=document(first=train(), score=score, third={**third, "label": "points"})
    )
    assert [problem["field"] for problem in answer.json()["error"]["problems"]] == ["steps.third.label"]


def test_the_same_key_gives_the_same_pipeline_and_others_do_not_see_it(ready: Api) -> None:
    key = {"Idempotency-Key": secrets.token_hex(8)}
    sent = document(first=train())
    pipeline = submit(ready, sent, headers=key)
    assert submit(ready, sent, headers=key)["id"] == pipeline["id"]
    assert ready.client.post("/v1/pipelines", json=document(other=train()), headers=key).status_code == 409
    with ready.as_user(ready.new_user()) as other:
        for path in ("", "/cancel", "/retry"):
            method = "POST" if path else "GET"
            assert other.request(method, f"/v1/pipelines/{pipeline['id']}{path}").status_code == 404
        assert other.get("/v1/pipelines").json()["data"] == []


def test_what_a_pipeline_reads_or_made_stays_until_it_has_ended(ready: Api) -> None:
    pipeline = submit(
        ready,
        document(first=train(), second=train("second", model="$first.model", after=["third"]), third=train("third")),
    )
    steps = go_on(ready, pipeline)
    succeed(ready, steps["first"])
    go_on(ready, pipeline)
    for path in ("datasets/headlines/versions/1", f"registry/models/{ready.user}/first/versions/1"):
        refused = ready.client.delete(f"/v1/{path}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "in_use")
        assert f"eigenwerk pipelines cancel {pipeline['id']}" in refused.text
    ready.client.post(f"/v1/pipelines/{pipeline['id']}/cancel")
    go_on(ready, pipeline)
    go_on(ready, pipeline)
    assert state_of(ready, pipeline) == "cancelled"
    assert ready.client.delete(f"/v1/registry/models/{ready.user}/first/versions/1").status_code == 200


def test_a_graph_is_a_picture_without_foreign_markup(ready: Api) -> None:
    pipeline = submit(ready, document(first=train(), second=train("second", model="$first.model")))
    answer = ready.client.get(f"/v1/pipelines/{pipeline['id']}/graph.svg")
    assert answer.headers["content-type"].startswith("image/svg+xml")
    root = ElementTree.fromstring(answer.text)  # noqa: S314 - our own
    drawn = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert (drawn.count("g"), drawn.count("path")) == (2, 1)


def test_a_step_is_taken_from_an_earlier_success_only_when_asked_and_only_if_nothing_has_changed(ready: Api) -> None:
    ready.push("same")
    chain = document(first=train(), second=train("second", model="$first.model"))
    pipeline = submit(ready, chain)
    for name in ("first", "second"):
        succeed(ready, go_on(ready, pipeline)[name], accuracy=0.5)
    made = go_on(ready, pipeline)
    assert go_on(ready, submit(ready, chain))["first"]["state"] == "running", "nobody asked"
    reused = submit(ready, {**chain, "reuse": True})
    steps = go_on(ready, reused)
    assert state_of(ready, reused) == "succeeded"
    for name in ("first", "second"):
        assert steps[name]["result"] == made[name]["result"]
        assert (steps[name]["reason"], steps[name]["job_id"]) == ("reused", made[name]["job_id"])
        assert steps[name]["message"] == f"Taken from job {made[name]['job_id']}: same spec, inputs and code."
    # The same rows under another name are the same input; another seed is another job.
    changed = document(first=train(dataset="same"), second=train("second", model="$first.model", training={"seed": 1}))
    steps = go_on(ready, submit(ready, {**changed, "reuse": True}))
    assert (steps["first"]["state"], steps["second"]["state"]) == ("succeeded", "running")
