"""A new version that takes a share of a deployment's requests first, at replicas of the API that share one database."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from storage.repositories.serving.answers import ANSWER_BUCKETS_S, quantile_s
from storage.repositories.serving.candidates import candidate_name
from tests.api.conftest import Api, RunApi
from tests.api.standing_in import Engine, deployed, ready, standing_in

NEXT = candidate_name("finder")


@pytest.fixture
def old(api: Api) -> Iterator[Engine]:
    with standing_in() as engine:
        deployed(api, engine)
        yield engine


@pytest.fixture
def new(api: Api, old: Engine) -> Iterator[Engine]:
    """Version 2, a candidate with 30 % of the requests that is ready."""
    with standing_in() as engine:
        deployed(api, engine, row=NEXT, traffic_percent=30)
        yield engine


def version(client: httpx.Client, session: str | None = None, model: str = "finder") -> int:
    headers = {} if session is None else {"X-Session-Id": session}
    answer = client.post("/v1/embeddings", json={"model": model, "input": "one"}, headers=headers)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["version"])


def move(api: Api, verb: str, **body: Any) -> Any:
    answer = api.client.post(f"/v1/deployments/finder/{verb}", json=body or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


def shown(api: Api) -> Any:
    return api.client.get("/v1/deployments/finder").json()


def test_a_candidate_gets_nothing_before_it_is_ready_and_no_request_fails(api: Api, old: Engine) -> None:
    with standing_in() as engine:
        deployed(api, engine, row=None, traffic_percent=100)
        assert {version(api.client) for _ in range(5)} == {1}
        told = shown(api)
        assert (told["version"], told["candidate"]["version"], told["candidate"]["state"]) == (1, 2, "pending")
        assert api.client.post("/v1/deployments/finder/promote").status_code == 409
        ready(api, engine, NEXT)
        assert {version(api.client) for _ in range(5)} == {2}
        assert [item["name"] for item in api.client.get("/v1/deployments").json()["data"]] == ["finder"]


def test_a_session_stays_with_its_version_at_every_replica_while_the_share_grows(
    api: Api, new: Engine, run_api: RunApi
) -> None:
    sessions = [f"session {number}" for number in range(60)]
    first = {session: version(api.client, session) for session in sessions}
    assert 6 <= Counter(first.values())[2] <= 32  # 18 ± 4 standard deviations; which ones they are is no chance
    with run_api() as second, second.as_user(api.client.headers["Authorization"][7:]) as there:
        assert {session: version(there, session) for session in sessions} == first
        move(api, "traffic", percent=60)
        later = {session: version(there, session) for session in sessions}
    assert all(later[session] == 2 for session in sessions if first[session] == 2)
    assert Counter(later.values())[2] > Counter(first.values())[2]
    assert {version(api.client) for _ in range(60)} == {1, 2}


def test_a_version_that_is_named_answers_itself_or_nobody_does(api: Api, new: Engine) -> None:
    for model, expected in (("finder@1", 1), (f"{api.user}/finder@2", 2)):
        assert {version(api.client, model=model) for _ in range(8)} == {expected}
    absent = api.client.post("/v1/embeddings", json={"model": "finder@3", "input": "one"})
    assert (absent.status_code, absent.json()["error"]["code"]) == (404, "model_not_found")
    assert f"{api.user}/finder@1 and {api.user}/finder@2" in absent.json()["error"]["message"]


def test_where_the_candidate_is_gone_the_old_version_answers_and_the_errors_are_its_own(
    api: Api, old: Engine, run_api: RunApi
) -> None:
    with run_api() as counting, counting.as_user(api.client.headers["Authorization"][7:]) as client:
        with standing_in() as engine:
            deployed(api, engine, row=NEXT, traffic_percent=100)
        assert {version(client) for _ in range(5)} == {1}
    told = shown(api)
    assert (told["answers"]["requests"], told["answers"]["errors"]) == (5, 0)
    # One that could not be reached rests for some seconds before it is asked again.
    assert (told["candidate"]["answers"]["requests"], told["candidate"]["answers"]["error_rate"]) == (1, 1.0)


def test_errors_and_times_of_both_versions_stand_beside_each_other(api: Api, new: Engine, run_api: RunApi) -> None:
    with run_api() as counting, counting.as_user(api.client.headers["Authorization"][7:]) as client:
        for model in ("finder@1", "finder@1", "finder@1", "finder@2"):
            version(client, model=model)
        new.fails = True
        failed = client.post("/v1/embeddings", json={"model": "finder@2", "input": "one"})
        assert failed.status_code == 503
    told = shown(api)
    assert (told["answers"]["requests"], told["answers"]["errors"], told["answers"]["error_rate"]) == (3, 0, 0.0)
    assert (told["candidate"]["answers"]["requests"], told["candidate"]["answers"]["errors"]) == (2, 1)
    assert 0 < told["answers"]["p50_s"] <= told["answers"]["p95_s"] < 60
    with run_api() as fresh:
        metrics = fresh.admin.get("/metrics").text
    labels = rf'{{deployment="finder",model="{api.user}/finder@2",owner="{api.user}"}}'
    assert f"eigenwerk_answer_errors_total{labels} 1.0" in metrics
    assert re.search(rf"eigenwerk_answer_seconds_count{re.escape(labels)} 2\.0", metrics)


def test_a_promoted_candidate_is_the_deployment_and_the_old_version_ends(api: Api, new: Engine) -> None:
    told = move(api, "promote")
    assert (told["version"], told["state"], told["candidate"]) == (2, "ready", None)
    assert {version(api.client) for _ in range(5)} == {2}
    assert api.client.post("/v1/embeddings", json={"model": "finder@1", "input": "one"}).status_code == 404
    with api.database.unit_of_work() as work:
        ending = [row for row in work.deployments.held("host-1") if row.owner_id == api.user_id() and not row.wanted]
        assert [row.served for row in ending] == [f"{api.user}/finder@1"]
    # Its name is free for the next one.
    with standing_in() as third:
        deployed(api, third, row=NEXT, traffic_percent=100)
        assert version(api.client) == 3


def test_a_candidate_that_is_rolled_back_gets_nothing_more(api: Api, new: Engine) -> None:
    told = move(api, "rollback")
    assert (told["version"], told["candidate"]) == (1, None)
    assert {version(api.client) for _ in range(5)} == {1}
    assert api.client.post("/v1/deployments/finder/traffic", json={"percent": 5}).status_code == 404


def test_undeployed_or_deployed_for_all_requests_there_is_no_candidate(api: Api, new: Engine) -> None:
    assert api.client.put("/v1/deployments/finder", json={"model": "finder@1"}).json()["candidate"] is None
    with standing_in() as third:
        deployed(api, third, row=NEXT, traffic_percent=10)
    assert api.client.delete("/v1/deployments/finder").status_code == 202
    with api.database.unit_of_work() as work:
        mine = [row for row in work.deployments.held("host-1") if row.owner_id == api.user_id()]
        assert not any(row.wanted for row in mine)


def test_a_candidate_needs_a_deployment_of_another_version_for_the_same_task(api: Api, old: Engine) -> None:
    absent = api.client.put("/v1/deployments/absent", json={"model": "finder", "traffic_percent": 10})
    same = api.client.put("/v1/deployments/finder", json={"model": "finder@1", "traffic_percent": 10})
    api.import_model("bare")
    assert (absent.status_code, same.status_code) == (422, 422)
    assert same.json()["error"]["param"] == "traffic_percent"
    assert api.client.put("/v1/deployments/finder", json={"traffic_percent": 101}).status_code == 422


def test_quantiles_are_reckoned_from_buckets() -> None:
    counts = {0.1: 50, 0.2: 40, float("inf"): 10}
    assert quantile_s({}, 0.5) is None
    assert quantile_s(counts, 0.5) == pytest.approx(0.1)
    assert quantile_s(counts, 0.7) == pytest.approx(0.15 + 0.05 * 20 / 40)
    assert quantile_s(counts, 0.95) == ANSWER_BUCKETS_S[-2]
