"""/v1/webhooks: who may make, see and use them, and which addresses are refused before anything is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import openai
import pytest

from api.webhooks.service import check_url
from jobspecs.addresses import AddressRules
from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.problems import InvalidInput
from storage.repositories.deliveries import Outcome
from storage.tables import WebhookRow
from tests.api.conftest import Api, RunApi, sha256

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
        ("https://[fec0::1]/", "private"),
        ("https://[::1", "no address"),
        ("https://a]b/", "no address"),
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


def test_a_secret_is_changed_and_the_old_one_is_kept_as_long_as_is_said(api: Api) -> None:
    hook = made(api)
    path = f"/v1/webhooks/{hook['id']}/rotate"
    rotated = api.client.post(path, json={"keep_old_for": "2h"}).json()
    assert rotated["signing_secret"] not in ("", hook["signing_secret"])
    left = datetime.fromisoformat(rotated["previous_secret_until"]) - datetime.now(UTC)
    assert timedelta(minutes=110) < left < timedelta(hours=2, minutes=1)
    at_once = api.client.post(path, json={"keep_old_for": "0s"}).json()
    assert at_once["previous_secret_until"] is None and at_once["updated_at"] > hook["updated_at"]
    assert api.client.post(path, json={"keep_old_for": "8d"}).status_code == 422
    with api.as_user(api.new_user()) as other:
        assert other.post(path, json={}).status_code == 404


def test_a_secret_that_cannot_be_opened_any_more_is_replaced_and_not_kept(api: Api) -> None:
    hook = made(api)
    with api.database.unit_of_work() as work:
        work.session.get_one(WebhookRow, hook["id"]).sealed_secret = b"of another key"
    rotated = api.client.post(f"/v1/webhooks/{hook['id']}/rotate", json={}).json()
    assert rotated["previous_secret_until"] is None and rotated["signing_secret"]


def test_openais_client_makes_changes_and_deletes_webhooks(api: Api) -> None:
    token = api.client.headers["Authorization"].removeprefix("Bearer ")
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key=token, max_retries=0) as client:
        hooks = client.webhooks
        types: Any = ["fine_tuning.job.succeeded", "deployment.ready"]
        made_by_it = [hooks.create(name=str(n), url="https://8.8.8.8/hook", event_types=types) for n in range(3)]
        first = made_by_it[0]
        assert first.event_types == types and first.signing_secret.startswith("whsec_")
        assert [one.id for one in hooks.list(limit=2)] == [one.id for one in reversed(made_by_it)], "of two pages"
        changed = hooks.update(first.id, name="other", url="https://8.8.4.4/hook")
        assert (changed.name, changed.url, changed.event_types) == ("other", "https://8.8.4.4/hook", types)
        assert hooks.retrieve(first.id) == changed
        rotated = hooks.rotate_secret(first.id, keep_old_secret_active_for_24_hours=True)
        assert rotated.signing_secret != first.signing_secret
        assert api.client.get(f"/v1/webhooks/{first.id}").json()["previous_secret_until"] is not None
        assert "fine_tuning.job.failed" in hooks.event_types.list().data
        for bad in ({"url": "https://10.0.0.1/"}, {"event_types": ["response.completed"]}):
            with pytest.raises(openai.UnprocessableEntityError):
                hooks.update(first.id, **bad)
        assert hooks.delete(first.id).deleted
        with pytest.raises(openai.NotFoundError):
            hooks.retrieve(first.id)


def test_openais_test_of_a_webhook_tells_the_answers_status_or_that_there_was_none(run_api: RunApi) -> None:
    with run_api(webhook_test_s=20.0) as api:
        hook = made(api)
        token = api.client.headers["Authorization"].removeprefix("Bearer ")

        def answers(outcome: Outcome) -> None:
            claimed = None
            while claimed is None:
                with api.database.unit_of_work() as work:
                    claimed = work.deliveries.claim(lease_s=60.0)
            with api.database.unit_of_work() as work:
                work.deliveries.record(claimed, outcome)

        with openai.OpenAI(base_url=f"{api.url}/v1", api_key=token, max_retries=0) as client:
            for outcome in (Outcome(503, "It answered 503.", 0.1), Outcome(None, "No answer within 10 s.", 10.0)):
                answering = threading.Thread(target=answers, args=(outcome,))
                answering.start()
                try:
                    if outcome.status is not None:
                        done = client.webhooks.test(hook["id"], event_type="fine_tuning.job.failed")
                        assert (done.status_code, done.event_type) == (503, "fine_tuning.job.failed")
                    else:
                        with pytest.raises(openai.UnprocessableEntityError, match="No answer within 10 s"):
                            client.webhooks.test(hook["id"], event_type="fine_tuning.job.failed")
                finally:
                    answering.join(20)


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
