"""Sweeps over HTTP. The scheduler's part is done by the scheduler's own code, the worker's is played."""

from __future__ import annotations

import secrets
from typing import Any
from xml.etree import ElementTree

import pytest
from sqlalchemy import delete

from jobspecs.events import MetricEvent
from jobspecs.frozen import FrozenInputs
from jobspecs.lineage import Lineage
from jobspecs.manifest import Manifest, ManifestFile
from storage.tables import HostRow, JobRow
from tests.api.conftest import SPEC, Api
from tests.api.playing import finish, give_back, recorded, start, store
from workers.scheduler.sweeps.advancing import advance_all

RATES = {"training.learning_rate": [1e-5, 3e-5, 1e-4]}


def document(**changes: Any) -> dict[str, Any]:
    return {"kind": "sweep", "name": "rates", "spec": {**SPEC, "name": "best"}, "over": RATES, **changes}


def submit(api: Api, **changes: Any) -> Any:
    answer = api.client.post("/v1/sweeps", json=document(**changes))
    assert answer.status_code == 201, answer.text
    return answer.json()


def go_on(api: Api, sweep: Any) -> Any:
    """What the scheduler does; the sweep as it is then."""
    with api.database.unit_of_work() as work:
        due = work.sweeps.due(1000)
    advance_all(api.database, [*due])
    return api.client.get(f"/v1/sweeps/{sweep['id']}").json()


def by_number(sweep: Any) -> dict[int, Any]:
    return {trial["number"]: trial for trial in sweep["trials"]}


def succeed(api: Api, trial: Any, **metrics: float) -> None:
    """The trial's job trains a model with these figures."""
    job = {"id": trial["job_id"]}
    start(api, job)
    file = ManifestFile(path="model.safetensors", bytes=1, sha256=secrets.token_hex(32))
    part = "validation" if trial["number"] else "test"
    measured = {f"{part}/{name}": value for name, value in metrics.items()}
    made = Manifest(artifact="model", task="text-classification", files=(file,), metrics=measured)
    finish(api, job, made, prefix=f"artifacts/{trial['job_id']}/1")


def test_the_best_trial_wins_and_is_judged_by_rows_that_no_trial_saw(ready: Api) -> None:
    sweep = submit(ready, at_once=2)
    assert (sweep["state"], sweep["trials_total"], sweep["metrics"]) == ("running", 3, ["macro_f1"])
    trials = by_number(go_on(ready, sweep))
    assert {number: trial["values"]["training.learning_rate"] for number, trial in trials.items()} == {1: 1e-5, 2: 3e-5}
    for number, value in ((1, 0.6), (2, 0.8)):
        job = ready.client.get(f"/v1/jobs/{trials[number]['job_id']}").json()
        assert job["name"] == "rates-trial" and job["sweep"] == {"id": sweep["id"], "name": "rates", "trial": number}
        assert job["spec"]["test"]["sealed"] is True and job["spec"]["metric"] == "macro_f1"
        succeed(ready, trials[number], macro_f1=value, macro_f1_low=value - 0.1, macro_f1_high=value + 0.1)
    trials = by_number(go_on(ready, sweep))
    succeed(ready, trials[3], macro_f1=0.7)
    shown = go_on(ready, sweep)
    assert [trial["number"] for trial in shown["trials"]] == [2, 3, 1]
    best = shown["trials"][0]
    assert (best["value"], best["low"], best["high"]) == (0.8, pytest.approx(0.7), pytest.approx(0.9))
    assert (shown["state"], shown["winner"]) == ("running", 2)
    job = ready.client.get(f"/v1/jobs/{shown['confirmation']['job_id']}").json()
    assert job["name"] == "best" and job["spec"]["training"]["learning_rate"] == 3e-5
    drawn = {key: job["spec"]["test"].get(key) for key in ("fraction", "seed", "sealed")}
    assert drawn == {"fraction": 0.2, "seed": 42, "sealed": None}
    succeed(ready, shown["confirmation"], macro_f1=0.75, macro_f1_low=0.7, macro_f1_high=0.8)
    shown = go_on(ready, sweep)
    assert (shown["state"], shown["confirmation"]["value"]) == ("succeeded", 0.75)
    assert shown["confirmation"]["result"] == f"{ready.user}/best@1"
    with ready.database.unit_of_work() as work:
        inputs = FrozenInputs.model_validate(work.session.get_one(JobRow, shown["confirmation"]["job_id"]).inputs)
    origin = Lineage.of_job("train-classifier", {}, inputs).sweep
    assert origin is not None and (str(origin.id), origin.trial) == (sweep["id"], 0)
    picture = ready.client.get(f"/v1/sweeps/{sweep['id']}/curve.svg")
    assert picture.headers["content-type"] == "image/svg+xml"
    circles = ElementTree.fromstring(picture.text).findall(".//{*}circle")  # noqa: S314 - our own
    assert len(circles) == 3
    assert ready.client.post(f"/v1/sweeps/{sweep['id']}/cancel").status_code == 409


def test_a_trial_that_is_behind_is_paused_and_resumed_when_it_is_among_the_best(ready: Api) -> None:
    rates = {"training.learning_rate": [1e-5, 2e-5, 3e-5, 4e-5]}
    sweep = submit(ready, over=rates, at_once=2, halving={"first_steps": 50, "factor": 2})
    trials = by_number(go_on(ready, sweep))

    def say(number: int, *losses: float) -> Any:
        events = [MetricEvent(name="aside/loss", value=loss, step=25 * place) for place, loss in enumerate(losses, 1)]
        store(ready, {"id": trials[number]["job_id"]}, recorded(events))
        with ready.database.unit_of_work() as work:
            work.sweeps.note(sweep["id"], due=True, look_in_s=None)
        return go_on(ready, sweep)

    for number in (1, 2):
        start(ready, {"id": trials[number]["job_id"]})
    trials = by_number(say(2, 0.9, 0.8))
    # Of one that came to the rung nobody may go on yet.
    assert (trials[2]["state"], trials[2]["reason"], trials[2]["job_state"]) == ("stopped", "behind", "pausing")
    assert (trials[2]["steps"], trials[2]["rungs"], trials[3]["state"]) == (50, [0.8], "running")
    trials = by_number(say(1, 0.6, 0.5))
    assert (trials[1]["state"], trials[1]["rungs"]) == ("running", [0.5])
    start(ready, {"id": trials[3]["job_id"]})
    trials = by_number(say(3, 0.95, 0.9))
    # Of three one may go on, of four two: trial 2 is the second.
    assert [trials[number]["state"] for number in (2, 3, 4)] == ["stopped", "stopped", "running"]
    start(ready, {"id": trials[4]["job_id"]})
    trials = by_number(say(4, 0.95, 0.99))
    assert [trials[number]["state"] for number in (1, 2, 3, 4)] == ["running", "running", "stopped", "stopped"]
    assert trials[2]["job_state"] == "preempting"
    cancelled = ready.client.post(f"/v1/sweeps/{sweep['id']}/cancel")
    assert cancelled.json()["state"] == "cancelling"
    go_on(ready, sweep)
    for number in (1, 2):
        give_back(ready, {"id": trials[number]["job_id"]})
    shown = go_on(ready, sweep)
    assert shown["state"] == "cancelled"
    states = {job["state"] for job in ready.client.get("/v1/jobs").json()["data"]}
    assert states == {"cancelled", "cancelling"}


def test_a_check_tells_the_whole_and_queues_nothing(ready: Api) -> None:
    over = {**RATES, "training.batch_size": {"low": 4, "high": 64}}
    sent = document(over=over, method="tpe", trials=12, at_once=4)
    forecast = ready.client.post("/v1/sweeps/check", json=sent)
    assert forecast.status_code == 200, forecast.text
    told = forecast.json()
    assert (told["trials"], told["first"], told["goal"]) == (12, [], "max")
    assert told["work"]["high_s"] == pytest.approx(13 * told["trial"]["high_s"])
    assert told["duration"]["high_s"] == pytest.approx(4 * told["trial"]["high_s"])
    small = ready.client.post("/v1/sweeps/check", json=document()).json()
    assert small["memory_bytes"] <= told["memory_bytes"]
    assert [values["training.learning_rate"] for values in small["first"]] == [1e-5, 3e-5, 1e-4]
    assert ready.client.get("/v1/jobs").json()["data"] == ready.client.get("/v1/sweeps").json()["data"] == []


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"over": {"training.learning_rat": [1, 2]}}, "over.training.learning_rat", "unknown field"),
        ({"over": {"training.batch_size": [8, 0]}}, "over.training.batch_size.1", "0 is refused"),
        ({"over": {"model": ["tiny", "unknown@1"]}}, "over.model", "you have no model unknown@1"),
        ({"over": {"text": ["headline", "title"]}}, "over.text", "no column 'title'"),
        ({"metric": "bleu"}, "metric", "measures no such figure"),
        ({"spec": {**SPEC, "label": "kind"}}, "spec.label", "no column 'kind'"),
        ({"over": {"training.max_length": {"low": 8, "high": 1007}, **RATES}}, "over", "3,000 combinations"),
        ({"confirm": {"fraction": 0.99}}, "confirm", "of the rows that are left when these are drawn"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_queued(
    ready: Api, changes: dict[str, Any], field: str, said: str
) -> None:
    answer = ready.client.post("/v1/sweeps", json=document(**changes))
    assert answer.status_code == 422, answer.text
    problems = answer.json()["error"]["problems"]
    assert field in [problem["field"] for problem in problems], problems
    assert said in str(problems)
    assert ready.client.get("/v1/sweeps").json()["data"] == []


def test_a_value_for_which_no_host_has_room_is_refused_though_the_first_has_it(ready: Api) -> None:
    with ready.database.unit_of_work() as work:
        work.session.execute(delete(HostRow))  # Those of other tests, some with GPUs.
        work.hosts.announce("large", slots=1, memory_bytes=2**50, gpus=0, accepting=True)
    answer = ready.client.post("/v1/sweeps", json=document(over={"resources.gpus": [0, 1]}))
    assert answer.status_code == 422, answer.text
    (problem,) = answer.json()["error"]["problems"]
    assert problem["field"] == "over.resources.gpus" and "the largest host has 0" in problem["message"]


def test_what_trials_read_can_not_be_deleted_and_a_key_repeats_nothing(ready: Api) -> None:
    headers = {"Idempotency-Key": secrets.token_hex(4)}
    first, again = (ready.client.post("/v1/sweeps", json=document(), headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    other = ready.client.post("/v1/sweeps", json=document(at_once=1), headers=headers)
    assert other.status_code == 409
    refused = ready.client.delete(f"/v1/registry/models/{ready.user}/tiny/versions/1")
    assert refused.status_code == 409 and f"trials of the sweep {first.json()['id']} read it" in refused.text
    with ready.as_user(ready.new_user()) as stranger:
        assert stranger.get(f"/v1/sweeps/{first.json()['id']}").status_code == 404
        assert stranger.post(f"/v1/sweeps/{first.json()['id']}/cancel").status_code == 404
    with ready.as_user(ready.new_user("read")) as reader:
        assert reader.post("/v1/sweeps", json=document()).status_code == 403
