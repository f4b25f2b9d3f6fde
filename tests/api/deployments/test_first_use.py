"""Models that whoever asks first deploys; the tests play the inference worker."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from storage.tables import DeploymentRow
from tests.api.conftest import Api
from tests.api.deployments.test_deployments import KEY, engine, trained

__all__ = ["engine", "trained"]


def row_of(api: Api) -> DeploymentRow | None:
    with api.database.unit_of_work() as work:
        return work.deployments.find(api.reach(), "quality")


def classify(api: Api, model: str) -> int:
    return api.client.post("/v1/classify", json={"model": model, "input": "x"}).status_code


def changed(api: Api, **change: Any) -> Any:
    answer = api.client.patch(f"/v1/registry/models/{api.user}/quality", json=change)
    assert answer.status_code == 200, answer.text
    return answer.json()


def reader(api: Api) -> str:
    """A token of the same user that may read alone."""
    answer = api.admin.post(f"/v1/users/{api.user}/tokens", json={"scopes": ["read"]})
    return str(answer.json()["token"])


def start(api: Api, endpoint: str) -> None:
    """What a host does with what is woken."""
    deadline = time.monotonic() + 30
    while (row := row_of(api)) is None or row.woken_at is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with api.database.unit_of_work() as work:
        found = work.deployments.find(api.reach(), "quality")
        assert found is not None
        found.host, found.claimed_at = "host-1", datetime.now(UTC)
        work.session.flush()
        ready = {"state": "ready", "endpoint": endpoint, "endpoint_key": KEY}
        assert work.deployments.report(found.id, "host-1", found.generation, **ready)


def test_the_first_request_deploys_the_version_that_it_names_where_the_owner_allows_it(
    trained: Api, engine: str
) -> None:
    called = f"{trained.user}/quality@1"
    assert classify(trained, called) == 404
    assert row_of(trained) is None
    assert changed(trained, first_use={"idle_after_s": 60})["first_use"]["idle_after_s"] == 60
    assert classify(trained, "quality@7") == 404
    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(classify, trained, called) for _ in range(4)]
        start(trained, engine)
        assert {request.result() for request in asking} == {200}
    found = trained.client.get("/v1/deployments/quality").json()
    assert (found["model"], found["idle_after_s"]) == (called, 60)
    assert classify(trained, "quality") == 200


def test_who_may_only_ask_deploys_it_too_and_another_user_does_not(trained: Api, engine: str) -> None:
    changed(trained, first_use={}, visibility="everyone")
    asked = {"model": f"{trained.user}/quality", "input": "x"}
    with trained.as_user(trained.new_user("write")) as other:
        assert other.post("/v1/classify", json=asked).status_code == 404
    assert row_of(trained) is None
    with trained.as_user(reader(trained)) as asker:
        pool = ThreadPoolExecutor(1)
        waiting = pool.submit(asker.post, "/v1/classify", json=asked)
        start(trained, engine)
        assert waiting.result().status_code == 200
        pool.shutdown()
    assert trained.client.delete("/v1/deployments/quality").status_code in (202, 204)


def test_an_owner_takes_it_back(trained: Api) -> None:
    changed(trained, first_use={})
    assert changed(trained, first_use=None)["first_use"] is None
    assert classify(trained, "quality") == 404
