from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from jobspecs.events import LogEvent, RecordedEvent
from jobspecs.lifecycle import JobState
from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.rights import Reach
from storage.database import UnitOfWork
from storage.tables import ModelVersionRow
from tests.workers.harness import Harness
from workers.agent.housekeeping import Housekeeper
from workers.agent.retention import Retention, VersionsKept

DAY_S = 24 * 3600.0
GIB = 1 << 30


def add_models(work: UnitOfWork, owner_id: UUID, name: str, *ages_days: int) -> list[ModelVersionRow]:
    """Versions of 1 GiB each that are so old."""
    manifest = Manifest(artifact="model", files=(ManifestFile(path="w", bytes=GIB, sha256="0" * 64),))
    rows = []
    for age in ages_days:
        row = work.models.add_version(owner_id, name, manifest=manifest, prefix=f"models/{uuid4()}")
        age_row = text("UPDATE model_versions SET created_at = created_at - make_interval(days => :age) WHERE id = :id")
        work.session.execute(age_row, {"age": age, "id": row.id})
        rows.append(row)
    return rows


def versions(harness: Harness, owner_id: UUID) -> list[str]:
    with harness.database.unit_of_work() as work:
        return sorted(f"{row.model.name}@{row.version}" for row in work.models.list_versions(Reach.of(owner_id)))


def sweep(harness: Harness, retention: Retention | None) -> int:
    return Housekeeper(harness.database, harness.store, retention=retention).sweep().old


def test_old_versions_go_only_if_asked_and_never_the_newest_or_one_in_use(harness: Harness) -> None:
    with harness.database.unit_of_work() as work:
        owner = work.users.ensure("tester").id
        many = add_models(work, owner, "many", 90, 60, 40, 1)
        add_models(work, owner, "alone", 400)
        work.aliases.set(many[1].model_id, "prod", 2, actor="user:tester")
    assert sweep(harness, None) == 0
    assert len(versions(harness, owner)) == 5
    assert sweep(harness, Retention(models=VersionsKept(older_than_s=30 * DAY_S))) == 2
    assert versions(harness, owner) == ["alone@1", "many@2", "many@4"]


def test_each_owner_keeps_the_newest_versions_up_to_a_size(harness: Harness) -> None:
    with harness.database.unit_of_work() as work:
        one, other = (work.users.ensure(name).id for name in ("tester", "other"))
        add_models(work, one, "many", 5, 4, 3, 2)
        add_models(work, other, "few", 9, 8)
    assert sweep(harness, Retention(models=VersionsKept(bytes_max=2 * GIB))) == 2
    assert versions(harness, one) == ["many@3", "many@4"]
    assert versions(harness, other) == ["few@1", "few@2"]


def test_events_of_jobs_that_ended_long_ago_go(harness: Harness) -> None:
    jobs = [harness.submit(name) for name in ("old", "young", "active")]
    with harness.database.unit_of_work() as work:
        now = work.hosts.clock()
        for job_id in jobs:
            work.jobs.assign(job_id, "gone", lease_s=60)
            event = RecordedEvent(fence=1, number=0, at=now, event=LogEvent(level="info", message="said"))
            assert work.events.add(job_id, 1, [event])
        for job_id in jobs[:2]:
            work.jobs.transition(job_id, JobState.failed, actor="reaper")
        work.session.execute(
            text("UPDATE jobs SET finished_at = finished_at - interval '40 days' WHERE id = :id"), {"id": jobs[0]}
        )
    assert sweep(harness, Retention(events_s=30 * DAY_S)) == 1
    with harness.database.unit_of_work() as work:
        assert [len(work.events.after(job_id)) for job_id in jobs] == [0, 1, 1]
        assert work.jobs.get(jobs[0]) is not None


def test_events_beyond_a_size_go_with_the_jobs_that_ended_first_and_never_with_one_that_runs(harness: Harness) -> None:
    jobs = [harness.submit(f"job-{number}") for number in range(24)]
    with harness.database.unit_of_work() as work:
        now = work.hosts.clock()
        for job_id in jobs:
            work.jobs.assign(job_id, "gone", lease_s=60)
            said = LogEvent(level="info", message="m" * 1000)
            events = [RecordedEvent(fence=1, number=number, at=now, event=said) for number in range(10)]
            assert work.events.add(job_id, 1, events)
        for job_id in jobs[1:]:
            work.jobs.transition(job_id, JobState.failed, actor="reaper")
        # Counts that a session reports up to a second later would be added to what ANALYZE has counted already.
        work.session.execute(text("SELECT pg_stat_force_next_flush()"))
    with harness.database.unit_of_work() as work:
        work.session.execute(text("ANALYZE job_events"))
        assert work.stored.events_beyond(GIB) == 0
        assert 110 < work.stored.events_beyond(120 * 1100) < 150
    assert sweep(harness, Retention(events_bytes_max=GIB)) == 0
    assert sweep(harness, Retention(events_bytes_max=200 * 1100)) == 20
    with harness.database.unit_of_work() as work:
        left = [len(work.events.after(job_id)) for job_id in jobs]
    assert left == [10, *[0] * 20, 10, 10, 10]


def test_the_settings_are_days_and_gibibytes_and_nothing_else() -> None:
    settings = {"EIGENWERK_KEEP_EVENTS_DAYS": "30", "EIGENWERK_KEEP_MODELS_GIB": "0.5"}
    assert Retention.from_environment(settings) == Retention(30 * DAY_S, VersionsKept(bytes_max=GIB // 2))
    assert Retention.from_environment({"EIGENWERK_KEEP_EVENTS_GIB": "2"}) == Retention(events_bytes_max=2.0 * GIB)
    assert Retention.from_environment({}) == Retention()
    for wrong in ("0", "-1", "a month", "nan", "inf"):
        with pytest.raises(RuntimeError, match="above 0"):
            Retention.from_environment({"EIGENWERK_KEEP_DATASETS_DAYS": wrong})
