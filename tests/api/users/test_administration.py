"""What an administrator may do to others' things, and nobody else."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import pytest

from api.datasets.service import list_datasets
from api.parts import Parts
from api.registry.service import list_models
from api.settings import ApiSettings
from jobspecs.lifecycle import Reason
from jobspecs.rights import Principal, Reach
from scheduling.decisions import Resources
from storage.database import UnitOfWork
from storage.database_errors import OwnerGone
from storage.migrate import ensure_admin
from storage.repositories.registry.catalogue import Wish
from tests.api.conftest import ADMIN_TOKEN, HEADLINES, SPEC, Api, RunApi, safetensors


def submitted(api: Api) -> str:
    api.push()
    api.import_model()
    job_id: str = api.submit()["id"]
    return job_id


def test_an_administrator_sees_and_cancels_anybodys_job(api: Api) -> None:
    job_id = submitted(api)
    mine = {job["id"] for job in api.admin.get("/v1/jobs").json()["data"]}
    assert job_id not in mine, "a list shows one's own unless more is asked for"
    for query in ({"all": True}, {"owner": api.user}, {"owner": api.user, "state": "queued"}):
        page = api.admin.get("/v1/jobs", params=query).json()["data"]
        assert job_id in {job["id"] for job in page if job["owner"] == api.user}, query
    path = f"/v1/jobs/{job_id}"
    for part in ("", "/logs", "/events"):
        assert api.admin.get(f"{path}{part}", headers={"Accept": "application/json"}).status_code == 200, part
    cancelled = api.admin.post(f"{path}/cancel").json()
    assert (cancelled["state"], cancelled["owner"]) == ("cancelled", api.user)
    assert cancelled["transitions"][-1]["actor"] == "user:admin", "the owner sees who it was"


def test_nobody_else_sees_or_cancels_others_jobs(api: Api) -> None:
    job_id = submitted(api)
    with api.as_user(api.new_user()) as other:
        refused = other.get("/v1/jobs", params={"all": True})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
        assert "administrators" in refused.json()["error"]["message"]
        for unknown in (api.user, "nobody-of-that-name"):
            assert other.get("/v1/jobs", params={"owner": unknown}).status_code == 404
        for method, part in (("GET", ""), ("GET", "/logs"), ("GET", "/events"), ("POST", "/cancel")):
            assert other.request(method, f"/v1/jobs/{job_id}{part}").status_code == 404
    assert api.client.get("/v1/jobs", params={"owner": api.user}).json()["data"][0]["id"] == job_id


def test_an_administrator_sees_who_is_there_and_nobody_else_does(api: Api) -> None:
    users = api.admin.get("/v1/users").json()["data"]
    assert {"admin", api.user} <= {user["name"] for user in users}
    assert [user["name"] for user in users] == sorted(user["name"] for user in users)
    assert api.client.get("/v1/users").status_code == 403


def test_only_an_administrator_raises_a_job_above_others(api: Api) -> None:
    job_id = submitted(api)
    for job, status in ((job_id, 403), (str(uuid4()), 403)):
        assert api.client.patch(f"/v1/jobs/{job}", json={"boost": 1}).status_code == status
    assert api.client.get(f"/v1/jobs/{job_id}").json()["boost"] == 0
    raised = api.admin.patch(f"/v1/jobs/{job_id}", json={"boost": 1})
    assert (raised.status_code, raised.json()["boost"]) == (200, 1)
    with api.database.unit_of_work() as work:
        heads = work.queue.heads([Resources(slots=1, memory_bytes=1 << 50)])
        assert str(max(heads, key=lambda head: head.boost).id) == job_id, "it goes before everybody's"
    assert api.admin.patch(f"/v1/jobs/{job_id}", json={"boost": 101}).status_code == 422
    assert api.client.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
    assert api.admin.patch(f"/v1/jobs/{job_id}", json={"boost": 2}).status_code == 409


class TestDeletingUsers:
    def test_tokens_end_and_things_pass_on_with_jobs_that_run(self, api: Api) -> None:
        leaver, taker = new_name(), new_name()
        token = api.new_user(name=leaver)
        api.new_user(name=taker)
        with api.as_user(token) as client:
            job_id, headers = things(client), {"Idempotency-Key": "k"}
            assert client.post("/v1/jobs", json=SPEC, headers=headers).status_code == 201
            with api.database.unit_of_work() as work:
                assert work.jobs.assign(UUID(job_id), "host", lease_s=60)
                deploy(work, leaver)
            for wish in ({}, {"cancel_jobs": True}):
                refused = delete(api, leaver, **wish)
                assert (refused.status_code, refused.json()["error"]["code"]) == (409, "user_has_things")
                assert "2 jobs, 1 data sets, 1 models, 1 deployments" in refused.json()["error"]["message"]
            assert delete(api, leaver, give_to=taker).status_code == 204
            assert client.get("/v1/users/me").status_code == 401
        job = api.admin.get(f"/v1/jobs/{job_id}").json()
        assert (job["owner"], job["state"]) == (taker, "assigned"), "it runs on"
        assert job["transitions"][0]["actor"] == f"user:{leaver}", "history keeps the name as text"
        with api.database.unit_of_work() as work:
            reach = Reach.of(work.users.ensure(taker).id)
            assert [row.model.name for row in work.models.list_versions(reach)] == ["tiny"]
            assert [row.dataset.name for row in work.datasets.list_versions(reach)] == ["headlines"]
            assert work.deployments.find(reach, "served") is not None
            assert work.jobs.find_by_key(reach.home, "k") is None
        assert delete(api, leaver).status_code == 404
        assert api.admin.post("/v1/users", json={"name": leaver}).status_code == 201, "the name is free again"

    def test_every_name_that_clashes_is_told_and_nothing_changes(self, api: Api) -> None:
        leaver = new_name()
        with api.as_user(api.new_user(name=leaver)) as client:
            job_id = things(client)
            api.push()
            api.import_model()
            api.import_model("headline-quality")
            refused = delete(api, leaver, give_to=api.user).json()["error"]
            assert refused["code"] == "names_clash"
            for part in ("data set headlines", "model tiny", "job headline-quality"):
                assert part in refused["message"]
            assert len(refused["problems"]) == 3
            assert client.get(f"/v1/jobs/{job_id}").json()["owner"] == leaver
            # A cancelled job clashes no more; the others do.
            refused = delete(api, leaver, give_to=api.user, cancel_jobs=True).json()["error"]
            assert len(refused["problems"]) == 2
            assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "queued", "a refusal cancels nothing"

    def test_a_name_without_versions_stands_in_nobodys_way(self, api: Api) -> None:
        leaver = new_name()
        with api.as_user(api.new_user(name=leaver)) as client:
            push(client)
            api.push()
            assert api.client.delete("/v1/datasets/headlines").status_code == 200
            assert delete(api, leaver, give_to=api.user).status_code == 204
        assert api.client.get("/v1/datasets/headlines").json()["versions"][0]["version"] == 1
        assert api.push(content=HEADLINES.replace("rates", "cars"))["version"] == 2

    def test_names_without_versions_and_open_imports_are_nothing_to_pass_on(self, api: Api) -> None:
        leaver = new_name()
        with api.as_user(api.new_user(name=leaver)) as client:
            push(client)
            assert client.delete("/v1/datasets/headlines").status_code == 200
            import_id = client.post("/v1/registry/imports", json={"name": "half"}).json()["id"]
            sent = client.put(f"/v1/registry/imports/{import_id}/files/config.json", content=b"{}")
            assert sent.status_code == 201, sent.text
        assert delete(api, leaver).status_code == 204
        with api.database.unit_of_work() as work:
            assert not work.owners.is_taken(leaver)
            assert f"models/{import_id}" in work.garbage.claim(10_000), "its bytes are freed"

    def test_things_go_once_what_runs_has_stopped(self, api: Api) -> None:
        leaver = new_name()
        with api.as_user(api.new_user(name=leaver)) as client:
            job_id = UUID(things(client))
            with api.database.unit_of_work() as work:
                owner = work.users.ensure(leaver).id
                deploy(work, leaver)
                assert work.jobs.assign(job_id, "host", lease_s=60)
            left = delete(api, leaver, delete_things=True)
            assert (left.status_code, left.json()["jobs"]) == (202, 1)
            assert client.get("/v1/users/me").status_code == 401, "tokens end at once"
        with api.database.unit_of_work() as work:
            row = work.jobs.end_attempt(job_id, reason=Reason.crashed, message="stopped", actor="host:host")
            assert row is not None and row.state == "cancelled"
            keys = [f"datasets/{version.id}" for version in work.datasets.list_versions(Reach.of(owner))]
        assert delete(api, leaver, delete_things=True).status_code == 204
        with api.database.unit_of_work() as work:
            assert work.jobs.get(job_id) is None
            assert not work.owners.is_taken(leaver)
            assert set(keys) <= set(work.garbage.claim(10_000)), "their bytes are freed"

    def test_the_last_administrator_stays(self, run_api: RunApi, api_settings: ApiSettings, database_url: str) -> None:
        """In a database of its own: in the shared one other tests have administrators."""
        ensure_admin(database_url, ADMIN_TOKEN)
        with run_api(storage=replace(api_settings.storage, database_url=database_url)) as api:
            refused = delete(api, "admin", delete_things=True)
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "last_administrator")
            assert api.admin.get("/v1/users/me").status_code == 200
            with api.as_user(api.new_user("admin")) as other:
                for name in ("admin", "me"):
                    own = delete(api, name, delete_things=True)
                    assert (own.status_code, own.json()["error"]["code"]) == (409, "own_user")
                assert api.admin.get("/v1/users/me").status_code == 200, "the token did not end"
                assert other.delete("/v1/users/admin").status_code == 204, "another one is there"

    def test_what_cannot_be_meant_is_refused(self, api: Api) -> None:
        leaver = new_name()
        api.new_user(name=leaver)
        for wish in ({"give_to": leaver}, {"give_to": "nobody-there"}, {"give_to": "admin", "delete_things": True}):
            assert delete(api, leaver, **wish).status_code == 422, wish
        assert api.client.delete(f"/v1/users/{leaver}").status_code == 403


def test_a_request_that_meets_the_deletion_of_its_user_makes_nothing(api: Api) -> None:
    with pytest.raises(OwnerGone), api.database.unit_of_work() as work:
        work.models.start_import(uuid4(), "late")


def test_lists_have_the_things_of_one_name_that_several_owners_have(api: Api) -> None:
    """Of a user who acts for two owners."""
    for thing in (api.client, api.admin):
        things(thing)
    owners = frozenset(UUID(client.get("/v1/users/me").json()["id"]) for client in (api.client, api.admin))
    user = Principal(api.user_id(), api.user, frozenset({"read"}), acts_for=owners)
    parts = cast(Parts, SimpleNamespace(database=api.database))
    for listed in (list_datasets(parts, user).data, list_models(parts, user, Wish()).data):
        names = {"headlines", "tiny"}
        assert {item.owner for item in listed if item.name in names} == {api.user, "admin"}


def new_name() -> str:
    return f"user-{uuid4().hex[:8]}"


def push(client: httpx.Client) -> None:
    params = {"file_name": "headlines.csv"}
    assert client.put("/v1/datasets/headlines", params=params, content=HEADLINES.encode()).status_code == 201


def things(client: httpx.Client) -> str:
    """A data set, a model and a queued job; returns the job's id."""
    push(client)
    import_id = client.post("/v1/registry/imports", json={"name": "tiny"}).json()["id"]
    for path, body in {"model.safetensors": safetensors(), "config.json": b'{"model_type": "bert"}'}.items():
        assert client.put(f"/v1/registry/imports/{import_id}/files/{path}", content=body).status_code == 201
    assert client.post(f"/v1/registry/imports/{import_id}/complete").status_code == 201
    made = client.post("/v1/jobs", json=SPEC)
    assert made.status_code == 201, made.text
    job_id: str = made.json()["id"]
    return job_id


def deploy(work: UnitOfWork, name: str) -> None:
    """Wants a deployment of the user's model, which no worker holds."""
    owner = work.users.ensure(name).id
    (version,) = work.models.list_versions(Reach.of(owner))
    work.deployments.want(owner, "served", model_version_id=version.id, engine="embedded", replicas=1, memory_bytes=1)


def delete(api: Api, name: str, **wish: Any) -> httpx.Response:
    return api.admin.delete(f"/v1/users/{name}", params=wish)
