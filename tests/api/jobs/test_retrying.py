"""Retrying ended jobs over HTTP; a test plays the worker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest, ManifestFile
from storage.tables import GarbageRow, JobTransitionRow
from tests.api.conftest import Api
from tests.api.playing import finish, give_back, start

MANIFEST = Manifest(artifact="checkpoint", files=(ManifestFile(path="state", bytes=1, sha256="0" * 64),))


def failed(api: Api, *steps: int, reason: Reason = Reason.nan_loss) -> Any:
    """A job that failed after it had stored checkpoints at these steps."""
    job = api.submit()
    fence = start(api, job)
    for step in steps:
        prefix = f"checkpoints/{job['id']}/{fence}/step-{step}"
        with api.database.unit_of_work() as work:
            assert work.checkpoints.add(UUID(job["id"]), fence, step, prefix=prefix, manifest=MANIFEST)
    give_back(api, job, reason)
    return job


def retry(api: Api, job: Any, key: str | None = None, **params: Any) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return api.client.post(f"/v1/jobs/{job['id']}/retry", headers=headers, params=params)


def shown(api: Api, job: Any) -> Any:
    return api.client.get(f"/v1/jobs/{job['id']}").json()


def cancel(api: Api, job: Any) -> None:
    assert api.client.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200


def test_a_retry_has_the_ended_jobs_inputs_and_goes_on_from_its_newest_checkpoint(ready: Api) -> None:
    job = failed(ready, 100, 200)
    # A newer version of the data set changes nothing about it.
    ready.push()
    answer = retry(ready, job)
    assert answer.status_code == 201, answer.text
    new = answer.json()
    assert answer.headers["Location"] == f"/v1/jobs/{new['id']}"
    assert (new["state"], new["retry_of"], new["checkpoint_step"]) == ("queued", job["id"], 200)
    assert (new["spec"], new["inputs"]) == (shown(ready, job)["spec"], shown(ready, job)["inputs"])
    assert shown(ready, job)["retried_as"] == [new["id"]]
    with ready.database.unit_of_work() as work:
        rows = work.checkpoints.newest_first(UUID(new["id"]))
    assert [(row.fence, row.step, row.prefix) for row in rows] == [
        (0, step, f"checkpoints/{job['id']}/1/step-{step}") for step in (200, 100)
    ]
    cancel(ready, new)


def test_the_same_key_gives_the_same_retry_and_another_wish_with_it_is_refused(ready: Api) -> None:
    job = failed(ready, 100)
    first = retry(ready, job, "again")
    again = retry(ready, job, "again")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    other = retry(ready, job, "again", checkpoint_required=True)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")
    cancel(ready, first.json())


def test_of_many_retries_at_once_one_is_queued(ready: Api) -> None:
    job = failed(ready, 100)
    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(lambda _: retry(ready, job).status_code, range(6)))
    assert sorted(statuses) == [201, *[409] * 5]
    (new,) = shown(ready, job)["retried_as"]
    cancel(ready, {"id": new})
    # Its end makes way for another.
    answer = retry(ready, job)
    assert answer.status_code == 201
    cancel(ready, answer.json())


def test_the_time_of_a_job_is_that_of_all_its_attempts(ready: Api) -> None:
    job = ready.submit()
    for reason in (Reason.crashed, Reason.nan_loss):
        start(ready, job)
        give_back(ready, job, reason)
    with ready.database.unit_of_work() as work:
        # A step each minute: waiting in the queue, too.
        steps = select(JobTransitionRow).where(JobTransitionRow.job_id == UUID(job["id"]))
        for step in work.session.scalars(steps):
            step.at = datetime(2026, 1, 1, 0, step.seq, tzinfo=UTC)
    found = shown(ready, job)
    states = [step["state"] for step in found["transitions"]]
    assert (found["attempts"], states.count("queued"), states[-1]) == (2, 2, "failed")
    # Each attempt begins one step behind `queued`, and ends with the step that leaves the host.
    assert found["run_s"] == 60.0 * (len(states) - 3)


def test_without_a_checkpoint_a_retry_starts_anew_unless_that_was_ruled_out(ready: Api) -> None:
    job = failed(ready)
    refused = retry(ready, job, checkpoint_required=True)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "checkpoint_gone")
    assert shown(ready, job)["retried_as"] == []
    answer = retry(ready, job)
    assert (answer.status_code, answer.json()["checkpoint_step"]) == (201, None)
    cancel(ready, answer.json())


def test_a_job_that_has_not_ended_or_has_succeeded_is_not_retried(ready: Api) -> None:
    job = ready.submit()
    assert retry(ready, job).json()["error"]["code"] == "job_active"
    start(ready, job)
    assert retry(ready, job).json()["error"]["code"] == "job_active"
    finish(ready, job, Manifest(artifact="model", files=MANIFEST.files), prefix=f"artifacts/{job['id']}/1")
    assert retry(ready, job).json()["error"]["code"] == "job_succeeded"


def test_a_job_whose_data_set_was_deleted_is_not_retried(ready: Api) -> None:
    job = failed(ready, 100)
    assert ready.client.delete("/v1/datasets/headlines").status_code == 200
    assert retry(ready, job).json()["error"]["code"] == "inputs_deleted"


def test_nobody_but_an_administrator_retries_anothers_job(ready: Api) -> None:
    job = failed(ready, 100)
    with ready.as_user(ready.new_user()) as other:
        assert other.post(f"/v1/jobs/{job['id']}/retry").status_code == 404
    # An administrator does, for its owner.
    made = ready.admin.post(f"/v1/jobs/{job['id']}/retry")
    assert (made.status_code, made.json()["owner"]) == (201, ready.user)
    cancel(ready, made.json())


def test_a_job_that_is_being_retried_is_not_deleted_and_a_later_retry_keeps_its_checkpoint(ready: Api) -> None:
    job = failed(ready, 100)
    new = retry(ready, job).json()
    assert ready.client.delete(f"/v1/jobs/{job['id']}").status_code == 409
    cancel(ready, new)
    assert ready.client.delete(f"/v1/jobs/{job['id']}").status_code == 200
    assert shown(ready, new)["retry_of"] is None
    with ready.database.unit_of_work() as work:
        garbage = work.session.scalars(select(GarbageRow.prefix)).all()
    assert not [prefix for prefix in garbage if prefix.startswith(f"checkpoints/{job['id']}")]
    assert retry(ready, new).json()["checkpoint_step"] == 100


def test_a_checkpoint_that_was_taken_over_goes_with_the_last_job_that_names_it(ready: Api) -> None:
    job = failed(ready, 100)
    new = retry(ready, job).json()
    cancel(ready, new)
    for ended in (job, new):
        assert ready.client.delete(f"/v1/jobs/{ended['id']}").status_code == 200
    with ready.database.unit_of_work() as work:
        garbage = set(work.session.scalars(select(GarbageRow.prefix)))
    assert f"checkpoints/{job['id']}/1/step-100" in garbage
