from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import Any

import psycopg
import pytest

from api.settings import ApiSettings
from jobspecs.manifest import Manifest, ManifestFile, ModelOrigin
from jobspecs.references import Reference
from tests.api.conftest import Api, sha256
from tests.loopback import serving

KEY = "engine-key"


class Engine(BaseHTTPRequestHandler):
    """Answers as an engine does: every text that holds `good` is good."""

    answer_status = 200

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        allowed = self.headers["Authorization"] == f"Bearer {KEY}" and self.path == "/classify"
        results = [
            [
                {"label": label, "score": 0.9 if (label == "good") == ("good" in text) else 0.1}
                for label in ("bad", "good")
            ]
            for text in body["inputs"]
        ]
        answer = json.dumps({"results": results}).encode()
        self.send_response(type(self).answer_status if allowed else 401)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("x-model", "ada/quality@1")
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def engine() -> Iterator[str]:
    with serving(Engine) as url:
        yield url
    Engine.answer_status = 200


@pytest.fixture
def trained(api: Api) -> Api:
    """An API whose user has two versions of a classifier."""
    file = ManifestFile(path="model.safetensors", bytes=1000, sha256=sha256(b""))
    manifest = Manifest(artifact="model", task="text-classification", files=(file,))
    with api.database.unit_of_work() as work:
        for version in (1, 2):
            work.models.add_version(api.user_id(), "quality", manifest=manifest, prefix=f"artifacts/{version}")
    return api


def report(api: Api, **observed: Any) -> None:
    """Plays the inference worker."""
    with api.database.unit_of_work() as work:
        row = work.deployments.find(api.reach(), "quality")
        assert row is not None
        row.host = row.host or "host-1"
        row.state = observed.pop("state")
        for name, value in observed.items():
            setattr(row, name, value)


def classify(api: Api, **changes: Any) -> Any:
    return api.client.post("/v1/classify", json={"model": "quality", "input": "a good one", **changes})


def test_a_deployment_is_wanted_then_observed_then_ended(trained: Api) -> None:
    answer = trained.client.put("/v1/deployments/quality", json={})
    assert answer.status_code == 202
    wanted = answer.json()
    assert (wanted["state"], wanted["model"]) == ("pending", f"{trained.user}/quality@2")
    assert wanted["memory_bytes"] > 2**29
    report(trained, state="ready", endpoint="http://127.0.0.1:1", endpoint_key=KEY)
    seen = trained.client.get("/v1/deployments/quality")
    assert seen.json()["state"] == "ready"
    assert KEY not in seen.text
    assert "endpoint" not in seen.text
    assert len(trained.client.get("/v1/deployments").json()["data"]) == 1
    ended = trained.client.delete("/v1/deployments/quality")
    assert (ended.status_code, ended.json()["state"]) == (202, "stopping")


def test_a_deployment_that_no_worker_holds_is_gone_at_once(trained: Api) -> None:
    trained.client.put("/v1/deployments/quality")
    assert trained.client.delete("/v1/deployments/quality").status_code == 204
    assert trained.client.get("/v1/deployments/quality").status_code == 404
    assert trained.client.delete("/v1/deployments/quality").status_code == 404


def test_two_who_create_a_deployment_at_once_both_succeed(trained: Api, database_locks: Callable[[], int]) -> None:
    with ThreadPoolExecutor(1) as pool:
        with trained.database.unit_of_work() as work:
            first = work.models.find(trained.reach(), Reference(owner=trained.user, name="quality", version=1))
            assert first is not None
            work.deployments.want(
                trained.user_id(), "quality", model_version_id=first.id, engine="embedded", replicas=1, memory_bytes=1
            )
            answer = pool.submit(trained.client.put, "/v1/deployments/quality", json={"model": "quality@2"})
            while not database_locks():
                assert not answer.done()
        assert answer.result().status_code == 202
    seen = trained.client.get("/v1/deployments/quality").json()
    assert (seen["version"], seen["state"]) == (2, "pending")


@pytest.fixture
def database_locks(api_settings: ApiSettings) -> Iterator[Callable[[], int]]:
    """How many transactions of the API's database wait for another one."""
    url = api_settings.storage.database_url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:

        def waiting() -> int:
            query = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            row = connection.execute(query).fetchone()
            return int(row[0]) if row else 0

        yield waiting


def test_asking_for_what_is_wanted_already_restarts_nothing(trained: Api) -> None:
    trained.client.put("/v1/deployments/quality", json={"model": "quality@1"})
    report(trained, state="ready")
    assert trained.client.put("/v1/deployments/quality", json={"model": "quality@1"}).json()["state"] == "ready"
    assert trained.client.put("/v1/deployments/quality", json={"model": "quality@2"}).json()["state"] == "pending"
    report(trained, state="failed")
    assert trained.client.put("/v1/deployments/quality", json={"model": "quality@2"}).json()["state"] == "pending"


def test_what_cannot_be_served_is_refused(trained: Api) -> None:
    trained.import_model("bare")
    file = ManifestFile(path="model.safetensors", bytes=1000, sha256=sha256(b"painter"))
    with trained.database.unit_of_work() as work:
        manifest = Manifest(artifact="model", task="image-classification", files=(file,))
        work.models.add_version(trained.user_id(), "painter", manifest=manifest, prefix="artifacts/painter")
    for body, words in (
        ({"model": "absent"}, "no model absent"),
        ({"model": "bare"}, "bare model"),
        ({"model": "painter"}, "serves image-classification; what can be served is text-classification"),
        ({"model": "hub:org/name"}, "no model"),
        ({"replicas": 0}, "replicas"),
        ({"engine": "tgi"}, "engine"),
        ({"modle": "quality"}, "modle"),
    ):
        answer = trained.client.put("/v1/deployments/quality", json=body)
        assert answer.status_code == 422
        assert words in answer.json()["error"]["message"]


def test_an_adapter_needs_its_base_and_the_memory_of_both(trained: Api) -> None:
    base = ManifestFile(path="model.safetensors", bytes=10**9, sha256=sha256(b"base"))
    base_manifest = Manifest(artifact="model", files=(base,))
    adapter = Manifest(
        artifact="model",
        task="text-classification",
        base=ModelOrigin(reference=f"{trained.user}/big@1", digest=base_manifest.digest),
        files=(ManifestFile(path="adapter_model.safetensors", bytes=1000, sha256=sha256(b"adapter")),),
    )
    with trained.database.unit_of_work() as work:
        work.models.add_version(trained.user_id(), "adapter", manifest=adapter, prefix="artifacts/adapter")
    refused = trained.client.put("/v1/deployments/adapter")
    assert refused.status_code == 422
    assert f"adapter for {trained.user}/big@1" in refused.json()["error"]["message"]
    with trained.database.unit_of_work() as work:
        work.models.add_version(trained.user_id(), "big", manifest=base_manifest, prefix="artifacts/big")
    assert trained.client.put("/v1/deployments/adapter").json()["memory_bytes"] > 2 * 10**9


def test_an_adapter_for_a_hubs_model_is_refused_where_there_is_no_hub(trained: Api) -> None:
    adapter = Manifest(
        artifact="model",
        task="text-classification",
        base=ModelOrigin(reference=f"hub:org/base@{'a' * 40}"),
        files=(ManifestFile(path="adapter_model.safetensors", bytes=1000, sha256=sha256(b"hub")),),
    )
    with trained.database.unit_of_work() as work:
        work.models.add_version(trained.user_id(), "hubbed", manifest=adapter, prefix="artifacts/hubbed")
    answer = trained.client.put("/v1/deployments/hubbed")
    assert answer.status_code == 422
    assert "without a model hub" in answer.json()["error"]["message"]
    # Whoever says how much memory it takes may have the base on the inference host already.
    assert trained.client.put("/v1/deployments/hubbed", json={"memory_gib": 2}).status_code == 202


@pytest.mark.parametrize("task", ["text-classification", "sentence-similarity", "text-ranking"])
def test_every_served_task_may_be_deployed(trained: Api, task: str) -> None:
    file = ManifestFile(path="model.safetensors", bytes=1000, sha256=sha256(task.encode()))
    with trained.database.unit_of_work() as work:
        manifest = Manifest(artifact="model", task=task, files=(file,))
        work.models.add_version(trained.user_id(), "any", manifest=manifest, prefix=f"artifacts/{task}")
    assert trained.client.put("/v1/deployments/any").status_code == 202


def test_texts_are_classified_by_the_engine(trained: Api, engine: str) -> None:
    trained.client.put("/v1/deployments/quality", json={"model": "quality@1"})
    report(trained, state="ready", endpoint=engine, endpoint_key=KEY)
    one = classify(trained)
    assert one.json() == {
        "model": "quality",
        "version": 1,
        "results": [[{"label": "good", "score": 0.9}, {"label": "bad", "score": 0.1}]],
    }
    many = classify(trained, input=["good", "poor"], top_k=1).json()["results"]
    assert [[item["label"] for item in labels] for labels in many] == [["good"], ["bad"]]


def test_a_deployment_that_is_not_ready_answers_503_with_the_reason(trained: Api) -> None:
    trained.client.put("/v1/deployments/quality")
    pending = classify(trained)
    assert (pending.status_code, pending.json()["error"]["code"]) == (503, "deployment_not_ready")
    assert int(pending.headers["Retry-After"]) > 0
    report(trained, state="failed", reason="corrupt_artifact", message="config.json is damaged")
    assert "corrupt_artifact: config.json is damaged" in classify(trained).json()["error"]["message"]


def test_the_old_version_answers_while_the_new_one_is_being_started(trained: Api, engine: str) -> None:
    trained.client.put("/v1/deployments/quality", json={"model": "quality@1"})
    report(trained, state="ready", endpoint=engine, endpoint_key=KEY)
    assert trained.client.put("/v1/deployments/quality", json={"model": "quality@2"}).json()["state"] == "pending"
    meanwhile = classify(trained)
    assert (meanwhile.status_code, meanwhile.json()["version"]) == (200, 1)


def test_an_engine_with_too_much_waiting_answers_429(
    trained: Api, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "answer_status", 429)
    trained.client.put("/v1/deployments/quality", json={"model": "quality@1"})
    report(trained, state="ready", endpoint=engine, endpoint_key=KEY)
    busy = classify(trained)
    assert busy.status_code == 429
    assert int(busy.headers["Retry-After"]) > 0


def test_an_engine_that_fails_or_vanishes_answers_503(trained: Api, engine: str) -> None:
    trained.client.put("/v1/deployments/quality")
    report(trained, state="ready", endpoint=engine, endpoint_key="wrong")
    assert classify(trained).status_code == 503
    report(trained, state="ready", endpoint_key=KEY)
    Engine.answer_status = 500
    assert classify(trained).status_code == 503
    report(trained, state="ready", endpoint="http://127.0.0.1:1")
    assert classify(trained).status_code == 503


def test_an_unknown_deployment_and_that_of_another_user_are_404(trained: Api) -> None:
    assert classify(trained, model="absent").status_code == 404
    trained.client.put("/v1/deployments/quality")
    with trained.as_user(trained.new_user()) as other:
        assert other.post("/v1/classify", json={"model": "quality", "input": "x"}).status_code == 404
        assert other.get("/v1/deployments/quality").status_code == 404
        assert other.delete("/v1/deployments/quality").status_code == 404


def test_a_deployment_has_the_name_that_references_give_it(trained: Api) -> None:
    url = f"/v1/deployments/{trained.user}/quality"
    made = trained.client.put(url)
    assert (made.status_code, made.json()["model"]) == (202, f"{trained.user}/quality@2")
    assert trained.client.put("/v1/deployments/quality").json() == made.json(), "one thing by both names"
    assert trained.client.get(url).json() == made.json()
    assert trained.client.delete(url).status_code == 204
    assert trained.client.get("/v1/deployments/quality").status_code == 404


def test_nobody_reaches_a_deployment_by_its_owners_name(trained: Api) -> None:
    url = f"/v1/deployments/{trained.user}/quality"
    trained.client.put(url)
    with trained.as_user(trained.new_user()) as other:
        for client in (other, trained.admin):  # the rights table gives administrators nothing of others' deployments
            assert [client.request(method, url).status_code for method in ("GET", "PUT", "DELETE")] == [404] * 3
    assert trained.client.get(url).json()["state"] == "pending"


@pytest.mark.parametrize("texts", [[], ["x"] * 1025, "y" * 100_001, [1], None])
def test_too_many_or_too_long_texts_are_refused(trained: Api, texts: Any) -> None:
    assert classify(trained, input=texts).status_code == 422
