"""What a job leaves behind when it is no model: the next version of a data set."""

from __future__ import annotations

import hashlib

from jobspecs.lifecycle import JobState
from jobspecs.manifest import Manifest
from jobspecs.references import Reference
from jobspecs.rights import Reach
from tests.workers.harness import Harness
from workers.agent.housekeeping import Housekeeper


def test_a_job_can_make_the_next_version_of_a_data_set(platform: Harness) -> None:
    first, second = (platform.submit("dataset") for _ in range(2))
    for job_id in (first, second):
        assert platform.wait(job_id).state == JobState.succeeded, platform.history(job_id)
    with platform.database.unit_of_work() as work:
        versions = [work.datasets.of_job(job_id) for job_id in (first, second)]
        assert [work.models.of_job(job_id) for job_id in (first, second)] == [None, None]
        found = work.datasets.find(Reach.of(work.users.ensure("tester").id), Reference(name="dataset"))
    rows = [row for row in versions if row is not None]
    assert sorted(row.version for row in rows) == [1, 2]
    newest = max(rows, key=lambda row: row.version)
    assert found is not None and found.id == newest.id
    assert newest.rows == 2 and list(newest.profile["columns"]) == ["text", "score"]
    content = platform.store.get_bytes(newest.key)
    assert hashlib.sha256(content).hexdigest() == newest.sha256
    assert newest.manifest is not None and newest.manifest["report"]["origins"] == {"model": "tester/base@1"}


def test_what_a_job_found_of_a_model_is_committed_once_beside_it(platform: Harness) -> None:
    platform.prepare_inputs()
    assert platform.model is not None
    with platform.database.unit_of_work() as work:
        reach = Reach.of(work.users.ensure("tester").id)
        manifest = Manifest(artifact="model", files=platform.model.files)
        model = work.models.add_version(reach.home, "judged", manifest=manifest, prefix=platform.model.prefix)
        platform.model = platform.model.model_copy(update={"version_id": model.id})
        model_id = model.id
    job_id = platform.submit("dataset")
    assert platform.wait(job_id).state == JobState.succeeded, platform.history(job_id)
    with platform.database.unit_of_work() as work:
        result = work.datasets.of_job(job_id)
        found = work.evaluations.of_model(reach, model_id)
        told = [(row.result_id, row.task, row.dataset, row.judged) for row in found]
    assert result is not None and told == [(result.id, "classification", "tester/rows@1", 2)]


def test_sweeping_leaves_the_data_set_that_a_job_made(platform: Harness) -> None:
    job_id = platform.submit("dataset")
    platform.wait(job_id)
    with platform.database.unit_of_work() as work:
        row = work.datasets.of_job(job_id)
        unswept = [job.job_id for job in work.attempts.unswept(after=0, limit=1000)]
    assert row is not None and job_id not in unswept
    Housekeeper(platform.database, platform.store).sweep()
    assert platform.store.get_bytes(row.key).startswith(b"text,score")


def test_a_job_that_passed_on_while_it_ran_gives_its_model_to_the_new_owner(platform: Harness) -> None:
    job_id = platform.submit("steps")
    platform.wait(job_id, JobState.running)
    with platform.database.unit_of_work() as work:
        giver, taker = (work.users.ensure(name).id for name in ("tester", "heir"))
        work.handover.give(giver, taker)
        assert work.users.delete(giver)
    assert platform.wait(job_id).state == JobState.succeeded, platform.history(job_id)
    with platform.database.unit_of_work() as work:
        made = work.models.of_job(job_id)
        assert made is not None and made.model.owner.name == "heir"
