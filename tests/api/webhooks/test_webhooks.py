"""/v1/webhooks: who may make, see and use them, and which addresses are refused before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from api.webhooks.service import check_url
from jobspecs.addresses import AddressRules
from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.problems import InvalidInput
from storage.tables import WebhookRow
from tests.api.conftest import Api, sha256

HOOK = {"name": "chat", "url": "https://8.8.8.8/hook", "event_types": ["job.succeeded", "job.failed"]}


def made(api: Api, **changes: Any) -> Any:
    answer = api.client.post("/v1/webhooks", json={**HOOK, **changes})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_secret_is_shown_once_and_kept_sealed(api: Api) -> None:
    hook = made(api)
    assert hook["signing_secret"].startswith("whsec_") and hook["enabled"]
    seen = api.client.get(f"/v1/webhooks/{hook['id']}").json()
    assert "signing_secret" not in seen
    assert seen["signing_secret_hint"] == "…" + hook["signing_secret"][-4:]
    assert [item["id"] for item in api.client.get("/v1/webhooks").json()["data"]] == [hook["id"]]
    with api.database.unit_of_work() as work:
        (row,) = work.webhooks.list(api.reach())
    assert hook["signing_secret"] not in str(vars(row))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:8480/v1/jobs", "the platform's own machine"),
        ("https://[::ffff:169.254.169.254]/latest", "of the link"),
        ("https://2130706433/", "the platform's own machine"),
        ("https://0x7f.1/", "the platform's own machine"),
        ("https://localhost/", "the platform's own machine"),
        ("http://8.8.8.8/", "https"),
        ("https://me:secret@8.8.8.8/", "password"),
        ("file:///etc/passwd", "no address"),
    ],
)
def test_an_address_that_is_not_allowed_is_refused_before_anything_is_stored(api: Api, url: str, why: str) -> None:
    answer = api.client.post("/v1/webhooks", json={**HOOK, "url": url})
    assert answer.status_code == 422 and why in answer.text
    assert answer.json()["error"]["param"] == "url"
    assert api.client.get("/v1/webhooks").json()["data"] == []


@pytest.mark.parametrize("name", ["inside.example", "mixed.example", "unknown.example"])
def test_a_name_that_means_a_private_address_or_nothing_is_refused(name: str) -> None:
    answers = {"inside.example": ["10.0.0.7"], "mixed.example": ["8.8.8.8", "::1"], "outside.example": ["8.8.8.8"]}

    def resolve(host: str, port: int) -> list[Any]:
        if host not in answers:
            raise OSError("no such name")
        return [ip_address(answer) for answer in answers[host]]

    parts: Any = SimpleNamespace(settings=SimpleNamespace(webhook_addresses=AddressRules()), resolve=resolve)
    check_url(parts, "https://outside.example/x")
    with pytest.raises(InvalidInput):
        check_url(parts, f"https://{name}/x")


@pytest.mark.parametrize(
    "changes", [{"event_types": []}, {"event_types": ["job.exploded"]}, {"name": ""}, {"name": "a\nb"}, {"extra": 1}]
)
def test_what_is_no_webhook_is_refused(api: Api, changes: dict[str, Any]) -> None:
    assert api.client.post("/v1/webhooks", json={**HOOK, **changes}).status_code == 422


def test_a_webhook_is_its_owners_alone(api: Api) -> None:
    hook = made(api)
    with api.as_user(api.new_user()) as other:
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/deliveries"), ("POST", "/enable")):
            assert other.request(method, f"/v1/webhooks/{hook['id']}{path}").status_code == 404
        assert other.get("/v1/webhooks").json()["data"] == []
    with api.as_user(api.new_user("read")) as reader:
        assert reader.post("/v1/webhooks", json=HOOK).status_code == 403


def test_a_test_event_waits_to_be_sent_and_can_be_replayed(api: Api) -> None:
    hook = made(api)
    path = f"/v1/webhooks/{hook['id']}"
    sent = api.client.post(f"{path}/test", json={})
    assert sent.status_code == 202, sent.text
    told = sent.json()
    assert (told["event_type"], told["state"], told["attempts"]) == ("job.succeeded", "pending", 0)
    assert f'"id":"{told["message_id"]}"' in told["body"]
    replayed = api.client.post(f"{path}/deliveries/{told['id']}/replay").json()
    assert (replayed["message_id"], replayed["body"]) == (told["message_id"], told["body"])
    assert [item["id"] for item in api.client.get(f"{path}/deliveries").json()["data"]] == [told["id"]]
    assert api.client.get(f"{path}/deliveries/{uuid4()}").status_code == 404
    assert api.client.delete(path).status_code == 204
    assert api.client.get(f"{path}/deliveries").status_code == 404


def test_a_disabled_webhook_says_why_and_is_used_again_when_it_is_enabled(api: Api) -> None:
    hook = made(api)
    with api.database.unit_of_work() as work:
        row = work.session.get_one(WebhookRow, hook["id"])
        row.disabled_at, row.disabled_reason = row.created_at, "Every delivery of 5 days failed."
    seen = api.client.get(f"/v1/webhooks/{hook['id']}").json()
    assert (seen["enabled"], seen["disabled_reason"]) == (False, "Every delivery of 5 days failed.")
    refused = api.client.post(f"/v1/webhooks/{hook['id']}/test", json={})
    assert refused.status_code == 409 and "eigenwerk webhooks enable" in refused.text
    assert api.client.post(f"/v1/webhooks/{hook['id']}/enable").json()["enabled"]
    assert api.client.post(f"/v1/webhooks/{hook['id']}/test", json={}).status_code == 202


def test_there_are_no_more_than_twenty(api: Api) -> None:
    for _ in range(20):
        made(api)
    refused = api.client.post("/v1/webhooks", json=HOOK)
    assert refused.status_code == 409 and "rm" in refused.text


@pytest.fixture
def told(ready: Api) -> Iterator[Api]:
    events = ["model.version.created", "model.alias.moved", "job.cancelled", "deployment.ready", "deployment.failed"]
    made(ready, event_types=events)
    yield ready


def test_models_aliases_and_jobs_are_told_of(told: Api) -> None:
    told.import_model(files={"README.md": b"second"})
    alias = told.client.put(f"/v1/registry/models/{told.user}/tiny/aliases/prod", json={"version": 2})
    assert alias.status_code == 200, alias.text
    job = told.submit()
    told.client.post(f"/v1/jobs/{job['id']}/cancel")
    (hook,) = told.client.get("/v1/webhooks").json()["data"]
    path = f"/v1/webhooks/{hook['id']}/deliveries"
    found = {item["event_type"]: item["id"] for item in told.client.get(path).json()["data"]}
    assert set(found) == {"model.version.created", "model.alias.moved", "job.cancelled"}
    body = told.client.get(f"{path}/{found['model.version.created']}").json()["body"]
    assert f'"id":"{told.user}/tiny@2"' in body
    moved = told.client.get(f"{path}/{found['model.alias.moved']}").json()["body"]
    assert '"version_from":null,"version_to":2' in moved


def test_a_deleted_users_webhooks_go(api: Api) -> None:
    name = f"gone-{uuid4().hex[:6]}"
    with api.as_user(api.new_user(name=name)) as client:
        hook = client.post("/v1/webhooks", json=HOOK).json()
    assert api.admin.delete(f"/v1/users/{name}").status_code == 204
    with api.database.unit_of_work() as work:
        assert work.session.get(WebhookRow, hook["id"]) is None


def test_a_deployment_is_told_of_when_it_becomes_ready_or_fails_and_not_at_each_look(told: Api) -> None:
    file = ManifestFile(path="model.safetensors", bytes=1000, sha256=sha256(b""))
    manifest = Manifest(artifact="model", task="text-classification", files=(file,))
    with told.database.unit_of_work() as work:
        work.models.add_version(told.user_id(), "quality", manifest=manifest, prefix="artifacts/1")
    assert told.client.put("/v1/deployments/quality", json={}).status_code == 202
    with told.database.unit_of_work() as work:
        row = work.deployments.find(told.reach(), "quality")
        assert row is not None
        row.host = "host-1"
    for state in ("starting", "ready", "ready", "failed"):
        with told.database.unit_of_work() as work:
            assert work.deployments.report(row.id, "host-1", row.generation, state=state)
    (hook,) = told.client.get("/v1/webhooks").json()["data"]
    found = told.client.get(f"/v1/webhooks/{hook['id']}/deliveries").json()["data"]
    events = [item["event_type"] for item in found]
    assert events == ["deployment.failed", "deployment.ready", "model.version.created"]
