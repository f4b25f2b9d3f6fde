"""Deleting jobs, models and data sets: refused while in use, and the bytes are really gone."""

from __future__ import annotations

from contextlib import closing
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from jobspecs.lifecycle import JobState
from jobspecs.rights import Reach
from tests.api.conftest import HEADLINES, Api, safetensors
from tests.api.jobs.test_retrying import failed as failed_job
from workers.agent.housekeeping import Housekeeper

TINY = "/v1/registry/models/{}/tiny"


def bytes_stored(api: Api) -> int:
    """Of the whole bucket, after housekeeping, an hour after the last deletion."""
    with closing(api.objects()) as store:
        with api.database.unit_of_work() as work:
            work.session.execute(text("UPDATE blobs SET keep_until = clock_timestamp() - interval '1 s'"))
        Housekeeper(api.database, store).sweep_garbage()
        return sum(item.bytes for item in store.list())


def end_job(api: Api, job_id: str) -> None:
    assert api.client.post(f"/v1/jobs/{job_id}/cancel").status_code == 200


def reasons(answer: httpx.Response) -> str:
    assert answer.status_code == 409, answer.text
    error = answer.json()["error"]
    assert error["code"] == "in_use"
    assert all(problem["remedy"] for problem in error["problems"])
    message: str = error["message"]
    return message


def test_deleted_versions_free_their_bytes_and_their_numbers_stay_theirs(api: Api) -> None:
    before = bytes_stored(api)
    for number in range(3):
        api.push(content=HEADLINES + f"one more {number},good\n")
    first, second = (api.import_model(files={"model.safetensors": safetensors(size)}) for size in (1000, 2000))
    full = bytes_stored(api)
    assert full > before + 12_000
    answer = api.client.delete("/v1/datasets/headlines/versions/2")
    assert answer.json()["deleted"] == [f"{api.user}/headlines@2"]
    assert bytes_stored(api) == full - answer.json()["bytes"]
    assert api.client.get("/v1/datasets/headlines/versions/2").status_code == 404
    assert api.client.delete("/v1/datasets/headlines/versions/2").status_code == 404
    answer = api.client.delete("/v1/datasets/headlines")
    assert answer.json()["deleted"] == [f"{api.user}/headlines@3", f"{api.user}/headlines@1"]
    assert api.client.get("/v1/datasets").json()["data"] == []
    full_of_models = bytes_stored(api)
    answer = api.client.delete(TINY.format(api.user))
    assert answer.json() == {
        "object": "deleted",
        "deleted": [second["reference"], first["reference"]],
        "bytes": full_of_models - before,
        "retries_lost": [],
    }
    assert bytes_stored(api) == before
    assert api.push()["version"] == 4
    assert api.import_model()["version"] == 3


def test_a_version_that_is_deleted_while_it_is_pulled_arrives_whole(api: Api) -> None:
    content = safetensors(10_000_000)  # 40 MB: three pieces, and more than what lies in buffers
    version = api.import_model(files={"model.safetensors": content})
    path = f"{TINY.format(api.user)}/versions/1/files/model.safetensors"
    with api.client.stream("GET", path, params={"redirect": False}) as answer:
        pieces = answer.iter_bytes()
        received = next(pieces)
        assert api.client.delete(TINY.format(api.user)).json()["deleted"] == [version["reference"]]
        with closing(api.objects()) as store:
            Housekeeper(api.database, store).sweep_garbage()
        received += b"".join(pieces)
    assert received == content
    assert api.client.get(path).status_code == 404


def test_what_a_waiting_job_reads_is_not_deleted_and_the_answer_says_why(ready: Api) -> None:
    job = ready.submit()
    for path in ("/v1/datasets/headlines", "/v1/datasets/headlines/versions/1", TINY.format(ready.user)):
        assert f"the job {job['id']} reads it" in reasons(ready.client.delete(path))
    with closing(ready.objects()) as store:
        Housekeeper(ready.database, store).sweep_garbage()
    assert ready.client.get("/v1/datasets/headlines/versions/1/preview").status_code == 200
    end_job(ready, job["id"])
    for path in ("/v1/datasets/headlines", TINY.format(ready.user)):
        assert ready.client.delete(path).status_code == 200
    assert ready.client.get(f"/v1/jobs/{job['id']}").json()["inputs"]["model"] == f"{ready.user}/tiny@1"


def test_jobs_that_could_be_retried_are_named_before_their_inputs_are_deleted(ready: Api) -> None:
    failed = failed_job(ready, 100)
    cancelled_at_once = ready.submit(name="without-checkpoint")
    end_job(ready, cancelled_at_once["id"])
    for path in ("/v1/datasets/headlines", "/v1/datasets/headlines/versions/1", TINY.format(ready.user)):
        told = ready.client.delete(path, params={"dry_run": "true"}).json()
        assert told["retries_lost"] == [{"id": failed["id"], "name": failed["name"]}]
        # Others have the model's content as well.
        assert len(told["deleted"]) == 1 and (told["bytes"] > 0 or "registry" in path)
    # Nothing has gone yet.
    assert ready.client.get("/v1/datasets/headlines/versions/1").status_code == 200
    assert ready.client.delete("/v1/datasets/headlines").json()["retries_lost"] == told["retries_lost"]
    assert ready.client.post(f"/v1/jobs/{failed['id']}/retry").json()["error"]["code"] == "inputs_deleted"


def test_a_version_that_an_alias_or_a_deployment_names_is_not_deleted(ready: Api) -> None:
    ready.import_model(files={"README.md": b"second"})
    path = TINY.format(ready.user)
    assert ready.client.put(f"{path}/aliases/prod", json={"version": 1}).status_code == 200
    with ready.database.unit_of_work() as work:
        owner = ready.user_id()
        version = work.models.list_versions(Reach.of(owner))[0]
        work.deployments.want(owner, "served", model_version_id=version.id, engine="e", replicas=1, memory_bytes=1)
    assert "alias prod points at it" in reasons(ready.client.delete(f"{path}/versions/1"))
    assert "the deployment served serves it" in reasons(ready.client.delete(f"{path}/versions/2"))
    message = reasons(ready.client.delete(path))
    assert "served" in message and "prod" not in message
    assert len(ready.client.get(path).json()["versions"]) == 2, "nothing was deleted"


def test_an_ended_job_is_deleted_with_what_it_left_and_another_is_not(ready: Api) -> None:
    before = bytes_stored(ready)
    job = ready.submit()
    path = f"/v1/jobs/{job['id']}"
    refused = ready.client.delete(path)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "job_active")
    with ready.database.unit_of_work() as work:
        work.jobs.assign(UUID(job["id"]), "gone", lease_s=60)
        work.jobs.transition(UUID(job["id"]), JobState.failed, actor="reaper")
    with closing(ready.objects()) as store:
        for key in (f"checkpoints/{job['id']}/1/step-1/state", f"artifacts/{job['id']}/1/model.safetensors"):
            store.put_bytes(key, bytes(5000))
    assert ready.client.delete(path).status_code == 200
    assert bytes_stored(ready) == before
    assert ready.client.get(path).status_code == 404
    assert ready.client.get(f"{path}/logs").status_code == 404
    assert ready.client.get("/v1/jobs").json()["data"] == []


@pytest.mark.parametrize("what", ["/v1/datasets/headlines", "/v1/registry/models/{user}/tiny", "/v1/jobs/{job}"])
def test_nobody_deletes_what_is_anothers(ready: Api, what: str) -> None:
    job = ready.submit()
    end_job(ready, job["id"])
    path = what.format(user=ready.user, job=job["id"])
    with ready.as_user(ready.new_user()) as other:
        assert other.delete(path).status_code == 404
    assert ready.client.get(path).status_code == 200
