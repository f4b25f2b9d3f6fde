from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from jobspecs.manifest import Manifest, ManifestFile
from scheduling.decisions import Resources
from storage.database import Database
from storage.repositories.jobs import queue
from workers.scheduler.loop import tick
from workers.scheduler.snapshot import fits_now, take_snapshot

GIB = 2**30


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        with opened.unit_of_work() as work:
            work.hosts.announce("laptop", slots=2, memory_bytes=8 * GIB, gpus=0, accepting=True)
        yield opened


def submit(database: Database, memory_gib: int, gpus: int = 0) -> UUID:
    with database.unit_of_work() as work:
        owner = work.users.ensure("ada")
        row, _ = work.jobs.submit(
            owner.id,
            actor="user:ada",
            spec={"kind": "train-classifier", "name": "model", "priority": 0},
            inputs={},
            slots=1,
            memory_bytes=memory_gib * GIB,
            gpus=gpus,
            max_runtime_s=3600,
            request_sha256="0",
            idempotency_key=str(uuid4()),
        )
    return row.id


def serve(database: Database, memory_gib: int, gpus: int = 0) -> None:
    manifest = Manifest(artifact="model", files=(ManifestFile(path="a", bytes=1, sha256="0" * 64),))
    with database.unit_of_work() as work:
        owner = work.users.ensure("ada")
        version = work.models.add_version(owner.id, "model", manifest=manifest, prefix="models/x")
        work.deployments.want(
            owner.id,
            "model",
            model_version_id=version.id,
            engine="embedded",
            replicas=1,
            memory_bytes=memory_gib * GIB,
            gpus=gpus,
        )
        assert work.deployments.claim("laptop", memory_bytes_free=8 * GIB, gpus_free=gpus, lease_s=60)


def state(database: Database, job: UUID) -> str:
    with database.unit_of_work() as work:
        row = work.jobs.get(job)
    assert row is not None
    return row.state


def test_a_job_that_a_deployment_leaves_no_room_for_holds_nobody_back(database: Database) -> None:
    serve(database, memory_gib=3)
    large, small = submit(database, memory_gib=6), submit(database, memory_gib=1)
    assert tick(database, lease_s=60) == 1
    assert (state(database, large), state(database, small)) == ("queued", "assigned")


def test_what_a_deployment_took_since_the_snapshot_is_not_given_out_again(database: Database) -> None:
    job = submit(database, memory_gib=6)
    with database.unit_of_work() as work:
        assert len(take_snapshot(work).waiting) == 1
        assert fits_now(work, job, "laptop")
    serve(database, memory_gib=3)
    with database.unit_of_work() as work:
        assert not fits_now(work, job, "laptop")


def test_a_host_that_takes_no_jobs_is_not_in_the_snapshot(database: Database) -> None:
    submit(database, memory_gib=1)
    with database.unit_of_work() as work:
        work.hosts.announce("laptop", slots=2, memory_bytes=8 * GIB, gpus=0, accepting=False)
        assert take_snapshot(work).hosts == []
    assert tick(database, lease_s=60) == 0


def test_gpus_of_deployments_are_not_given_to_jobs(database: Database) -> None:
    with database.unit_of_work() as work:
        work.hosts.announce("laptop", slots=2, memory_bytes=8 * GIB, gpus=2, accepting=True)
    submit(database, memory_gib=1, gpus=1)
    second = submit(database, memory_gib=1, gpus=1)
    serve(database, memory_gib=1, gpus=1)
    assert tick(database, lease_s=60) == 1
    assert state(database, second) == "queued"


def test_a_late_job_is_expected_to_take_as_long_again_as_it_is_late(database: Database) -> None:
    job = submit(database, memory_gib=1)
    with database.unit_of_work() as work:
        work.jobs.assign(job, "laptop", lease_s=60)
    for held_s, ends_in_s in ((600, 3300), (3900, 0), (4000, 100)):
        with database.unit_of_work() as work:
            work.session.execute(
                text("UPDATE jobs SET assigned_at = clock_timestamp() - make_interval(secs => :s)"), {"s": held_s}
            )
        with database.unit_of_work() as work:
            (running,) = take_snapshot(work).hosts[0].running
        assert running.ends_in_s == pytest.approx(ends_in_s, abs=30)
    assert running.needs == Resources(slots=1, memory_bytes=GIB)


def test_more_jobs_than_one_look_shows_start_one_look_after_the_other(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "HEADS", queue.HEADS.bindparams(rows_max=2))
    with database.unit_of_work() as work:
        work.hosts.announce("laptop", slots=5, memory_bytes=8 * GIB, gpus=0, accepting=True)
    jobs = [submit(database, memory_gib=1) for _ in range(6)]
    assert [tick(database, lease_s=60) for _ in range(4)] == [2, 2, 1, 0]
    assert [state(database, job) for job in jobs] == ["assigned"] * 5 + ["queued"]


def test_what_a_deployment_has_given_up_is_no_room_for_a_job_while_its_engine_may_use_it(database: Database) -> None:
    serve(database, memory_gib=6)
    with database.unit_of_work() as work:
        row = work.deployments.held("laptop")[0]
        work.deployments.want(
            row.owner_id,
            row.name,
            model_version_id=row.model_version_id,
            engine="embedded",
            replicas=1,
            memory_bytes=GIB,
        )
    job = submit(database, memory_gib=6)
    assert tick(database, lease_s=60) == 0
    with database.unit_of_work() as work:
        work.engine_holds.settle("laptop", [])
    assert (tick(database, lease_s=60), state(database, job)) == (1, "assigned")
