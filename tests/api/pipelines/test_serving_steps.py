"""Steps that deploy: the adapters beside their model, what is declared of answers, and every host of it."""

from __future__ import annotations

from typing import Any

import pytest

from jobspecs.manifest import ModelOrigin
from tests.api.conftest import Api, sha256
from tests.api.deployments.test_adapters_beside import BASE, deploy, register_adapter, registered
from tests.api.pipelines.test_pipelines import document, go_on, submit

__all__ = ["registered"]


def served(api: Api, name: str = "base") -> Any:
    return api.client.get(f"/v1/deployments/{name}").json()


def step(**more: Any) -> dict[str, Any]:
    return document(serve={"kind": "deploy", "name": "base", "model": "base@1", **more})


def test_a_step_without_adapters_keeps_those_that_fit_and_one_with_some_serves_exactly_these(registered: Api) -> None:
    assert deploy(registered, "titles@1", "notes").status_code == 202
    go_on(registered, submit(registered, step(replicas=2)))
    kept = served(registered)
    assert kept["replicas"] == 2
    assert sorted(kept["adapters"]) == [f"{registered.user}/notes@1", f"{registered.user}/titles@1"]
    by_hand = deploy(registered, "titles@1", "notes", replicas=2).json()
    assert by_hand["memory_bytes"] == kept["memory_bytes"], "as much as by hand"
    go_on(registered, submit(registered, step(adapters=["titles"])))
    assert served(registered)["adapters"] == [f"{registered.user}/titles@2"]
    go_on(registered, submit(registered, step(adapters=[])))
    assert served(registered)["adapters"] == []


def test_adapters_of_another_model_are_let_go_when_the_model_changes(registered: Api) -> None:
    assert deploy(registered, "notes").status_code == 202
    other = BASE.model_copy(update={"files": (BASE.files[0].model_copy(update={"sha256": sha256(b"new")}),)})
    with registered.database.unit_of_work() as work:
        work.models.add_version(registered.user_id(), "base", manifest=other, prefix="artifacts/base2")
    register_adapter(registered, "newer", ModelOrigin(reference=f"{registered.user}/base@2", digest=other.digest))
    go_on(registered, submit(registered, step(model="base@2")))
    assert (served(registered)["version"], served(registered)["adapters"]) == (2, [])
    go_on(registered, submit(registered, step(model="base@2", adapters=["newer"])))
    assert served(registered)["adapters"] == [f"{registered.user}/newer@1"]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"adapters": ["titles@1", "stranger"]}, "steps.serve.adapters.1"),
        ({"adapters": ["nothing"]}, "steps.serve.adapters.0"),
        ({"adapters": ["whole"]}, "steps.serve.adapters.0"),
        ({"sequences": 0}, "steps.serve.sequences"),
    ],
)
def test_what_could_never_be_served_is_refused_with_its_field(
    registered: Api, more: dict[str, Any], field: str
) -> None:
    answer = registered.client.post("/v1/pipelines", json=step(**more))
    assert answer.status_code == 422
    assert [one["field"] for one in answer.json()["error"]["problems"]] == [field]


def test_a_deployment_of_several_hosts_is_ready_when_each_of_them_is(registered: Api) -> None:
    pipeline = submit(registered, step(replicas=2, hosts=2))
    assert go_on(registered, pipeline)["serve"]["state"] == "running"

    def report(share: int, state: str) -> None:
        with registered.database.unit_of_work() as work:
            row = work.deployments.find(registered.reach(), "base", share=share)
            assert row is not None
            row.state = state

    report(0, "ready")
    assert go_on(registered, pipeline)["serve"]["state"] == "running"
    report(1, "ready")
    assert go_on(registered, pipeline)["serve"]["state"] == "succeeded"
