from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from jobspecs.lifecycle import JobState
from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.pieces import Piece
from jobspecs.rights import Reach
from storage.object_wire import parsed_xml, xml_text
from storage.objects import ObjectStore, ObjectStoreUnavailable
from tests.workers.harness import Harness
from workers.agent.housekeeping import Housekeeper
from workers.agent.unnamed import UNNAMED_FOR, UnnamedSweep

MANIFEST = Manifest(artifact="checkpoint", files=(ManifestFile(path="state", bytes=1, sha256="0" * 64),))


def job_with_checkpoint(harness: Harness, name: str) -> UUID:
    job_id = harness.submit(name)
    harness.store.put_bytes(f"checkpoints/{job_id}/1/step-1/state", b"x")
    with harness.database.unit_of_work() as work:
        work.jobs.assign(job_id, "gone", lease_s=60)
        work.checkpoints.add(job_id, 1, 1, prefix=f"checkpoints/{job_id}/1/step-1", manifest=MANIFEST)
    return job_id


def stored(harness: Harness, prefix: str) -> list[str]:
    return [item.key for item in harness.store.list(prefix)]


def begin_multipart(harness: Harness, key: str) -> str:
    """Begins an upload as a worker that is then killed."""
    answer = harness.store._wire.request("POST", key, query={"uploads": ""})
    return xml_text(parsed_xml(answer), "UploadId")


def end(harness: Harness, job_id: UUID, state: JobState, *, days_ago: int = 0) -> None:
    with harness.database.unit_of_work() as work:
        if state is JobState.succeeded:
            for step in (JobState.preparing, JobState.running, JobState.uploading):
                work.jobs.transition(job_id, step, actor="host:gone")
        assert work.jobs.transition(job_id, state, actor="reaper")
        work.session.execute(
            text("UPDATE jobs SET finished_at = finished_at - make_interval(days => :days) WHERE id = :id"),
            {"id": job_id, "days": days_ago},
        )


def arrives_late(harness: Harness, *keys: str) -> None:
    """Files that arrive after their prefix was deleted go when all has settled, and so does the note about it."""
    keeper = Housekeeper(harness.database, harness.store)
    keeper.sweep_garbage()
    for key in keys:
        harness.store.put_bytes(key, b"x")
    assert keeper.sweep_garbage() == 0
    with harness.database.unit_of_work() as work:
        earlier = (
            "UPDATE garbage SET due_at = due_at - interval '2 hours', created_at = created_at - interval '2 hours'"
        )
        work.session.execute(text(earlier))
    assert keeper.sweep_garbage() == len(keys)
    with harness.database.unit_of_work() as work:
        assert work.session.scalar(text("SELECT count(*) FROM garbage")) == 0


def test_what_a_lost_host_sends_for_a_job_that_was_deleted_goes_too(harness: Harness) -> None:
    job_id = job_with_checkpoint(harness, "deleted")
    end(harness, job_id, JobState.failed)
    with harness.database.unit_of_work() as work:
        work.removal.delete_job(job_id)
    arrives_late(harness, f"artifacts/{job_id}/1/state", f"checkpoints/{job_id}/1/step-2/state")


def test_checkpoints_stay_for_a_week_after_a_job_failed_and_no_longer_than_its_success(harness: Harness) -> None:
    old, new, done, active = (job_with_checkpoint(harness, name) for name in ("old", "new", "done", "active"))
    end(harness, old, JobState.failed, days_ago=8)
    end(harness, new, JobState.failed)
    end(harness, done, JobState.succeeded)
    for job_id in (old, active):
        # As a worker leaves it that is killed before it has written the row.
        harness.store.put_bytes(f"checkpoints/{job_id}/1/step-2/state", b"x")
    assert Housekeeper(harness.database, harness.store).sweep().checkpoints == 3
    with harness.database.unit_of_work() as work:
        kept = [job for job in (old, new, done, active) if work.checkpoints.newest_first(job)]
    assert kept == [new, active]
    assert [len(stored(harness, f"checkpoints/{job}/")) for job in (old, new, done, active)] == [0, 1, 0, 2]


def test_a_checkpoint_that_a_retry_has_adopted_outlives_the_job_that_made_it(harness: Harness) -> None:
    retried = job_with_checkpoint(harness, "retried")
    end(harness, retried, JobState.failed, days_ago=8)
    retry = harness.submit("retried")
    with harness.database.unit_of_work() as work:
        work.removal.uses_of_job(retried)
        assert work.checkpoints.adopt(retried, retry) == 1
        # Nothing expires while a retry holds the job.
        with harness.database.unit_of_work() as other:
            other.checkpoints.expire(kept_s=0.0)
            assert other.checkpoints.newest_first(retried)
    keeper = Housekeeper(harness.database, harness.store)
    assert keeper.sweep().checkpoints == 0
    assert len(stored(harness, f"checkpoints/{retried}/")) == 1
    with harness.database.unit_of_work() as work:
        assert work.jobs.transition(retry, JobState.cancelled, actor="user:tester")
        work.session.execute(
            text("UPDATE jobs SET finished_at = finished_at - interval '8 days' WHERE id = :id"), {"id": retry}
        )
    assert keeper.sweep().checkpoints == 1
    assert stored(harness, f"checkpoints/{retried}/") == []


def test_an_import_that_nobody_completed_goes_after_a_week(harness: Harness) -> None:
    with harness.database.unit_of_work() as work:
        owner = work.users.ensure("tester")
        old, new = (work.models.start_import(owner.id, name).id for name in ("old", "new"))
        work.models.add_import_file(old, MANIFEST.files[0], [])
        work.session.execute(
            text("UPDATE model_imports SET created_at = created_at - interval '8 days' WHERE id = :id"), {"id": old}
        )
    for import_id in (old, new):
        harness.store.put_bytes(f"models/{import_id}/state", b"x")
    keeper = Housekeeper(harness.database, _Broken(harness.store))
    with pytest.raises(ObjectStoreUnavailable):
        keeper.sweep()
    with harness.database.unit_of_work() as work:
        assert work.models.open_import(Reach.of(owner.id), old) is None, "it can't be completed any more"
    assert Housekeeper(harness.database, harness.store).sweep().imports == 1
    assert stored(harness, f"models/{old}") == []
    assert len(stored(harness, f"models/{new}")) == 1
    arrives_late(harness, f"models/{old}/late")


def test_what_broken_attempts_left_goes_once_the_job_has_ended(harness: Harness) -> None:
    failed, done, active = (harness.submit(name) for name in ("failed", "done", "active"))
    for job_id in (failed, done, active):
        for fence in (1, 2):
            harness.store.put_bytes(f"artifacts/{job_id}/{fence}/state", b"x")
    with harness.database.unit_of_work() as work:
        owner = work.users.ensure("tester")
        for job_id in (failed, done, active):
            work.jobs.assign(job_id, "gone", lease_s=60)
            work.jobs.transition(job_id, JobState.queued, actor="reaper")
            work.jobs.assign(job_id, "gone", lease_s=60)
        work.jobs.transition(failed, JobState.failed, actor="reaper")
        for state in (JobState.preparing, JobState.running, JobState.uploading, JobState.succeeded):
            assert work.jobs.transition(done, state, actor="host:gone")
        work.models.add_version(owner.id, "done", manifest=MANIFEST, prefix=f"artifacts/{done}/2", job_id=done, fence=2)
    assert Housekeeper(harness.database, harness.store).sweep().attempts == 3
    assert stored(harness, f"artifacts/{failed}") == []
    assert stored(harness, f"artifacts/{done}") == [f"artifacts/{done}/2/state"]
    assert len(stored(harness, f"artifacts/{active}")) == 2


def test_garbage_goes_and_is_tried_again_when_the_store_was_away(harness: Harness) -> None:
    prefix = f"datasets/{uuid4()}"
    harness.store.put_bytes(f"{prefix}/data.csv", b"x" * 1000)
    with harness.database.unit_of_work() as work:
        work.garbage.add(prefix, bytes_total=1000)
    assert Housekeeper(harness.database, _Broken(harness.store)).sweep_garbage() == 0
    assert stored(harness, prefix)
    with harness.database.unit_of_work() as work:
        work.session.execute(text("UPDATE garbage SET due_at = due_at - interval '2 hours'"))
    assert Housekeeper(harness.database, harness.store).sweep_garbage() == 1
    assert stored(harness, prefix) == []
    with harness.database.unit_of_work() as work:
        assert work.garbage.bytes_waiting() == 0


def test_what_a_version_names_stays_even_if_it_was_written_down_as_garbage(harness: Harness) -> None:
    import_id = uuid4()
    harness.store.put_bytes(f"models/{import_id}/state", b"x")
    with harness.database.unit_of_work() as work:
        owner = work.users.ensure("tester")
        work.models.add_version(owner.id, "named", manifest=MANIFEST, prefix=f"models/{import_id}")
        work.garbage.add(f"models/{import_id}", bytes_total=1)
    assert Housekeeper(harness.database, harness.store).sweep_garbage() == 0
    assert len(stored(harness, f"models/{import_id}")) == 1


def test_what_an_attempt_left_is_found_however_long_ago_the_job_ended_and_not_looked_for_twice(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.agent.housekeeping.PAGE_JOBS", 2)
    jobs = [harness.submit("failed") for _ in range(5)]
    for job_id in jobs:
        with harness.database.unit_of_work() as work:
            work.jobs.assign(job_id, "gone", lease_s=60)
        end(harness, job_id, JobState.failed, days_ago=30)
        harness.store.put_bytes(f"artifacts/{job_id}/1/state", b"x")
    late = harness.submit("late")
    with harness.database.unit_of_work() as work:
        work.jobs.assign(late, "gone", lease_s=60)
    end(harness, late, JobState.failed)
    keeper = Housekeeper(harness.database, harness.store)
    assert keeper.sweep().attempts == 5
    # What ended just now is looked at again: a host may still be sending.
    harness.store.put_bytes(f"artifacts/{late}/1/state", b"x")
    with harness.database.unit_of_work() as work:
        assert [job.job_id for job in work.attempts.unswept(after=0, limit=10)] == [late]
    assert keeper.sweep().attempts == 1


class _Broken(ObjectStore):
    """A store that lists and deletes nothing."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store.settings)

    def delete(self, prefix: str) -> int:
        raise ObjectStoreUnavailable("away")


def test_a_transfer_that_broke_off_is_dropped_after_a_day_and_a_running_one_is_not(harness: Harness) -> None:
    keeper = Housekeeper(harness.database, harness.store)
    upload_id = begin_multipart(harness, "artifacts/broken/1/model.safetensors")
    assert keeper.sweep().uploads == 0
    assert upload_id in {upload.upload_id for upload in harness.store.abandoned_uploads()}
    assert keeper.sweep(datetime.now(UTC) + timedelta(hours=25)).uploads >= 1
    assert upload_id not in {upload.upload_id for upload in harness.store.abandoned_uploads()}


def test_what_nothing_names_is_found_in_the_store_and_what_is_or_may_yet_be_named_stays(harness: Harness) -> None:
    # A bucket of its own: what other tests stored, this database does not name.
    store = ObjectStore(replace(harness.store.settings, bucket=f"unnamed-{uuid4().hex[:12]}"))
    store.ensure_bucket()
    active, ended = (job_with_checkpoint(harness, name) for name in ("active", "ended"))
    end(harness, ended, JobState.failed)
    with harness.database.unit_of_work() as work:
        owner = work.users.ensure("tester")
        version, gone, pushed = uuid4(), uuid4(), uuid4()
        work.models.add_version(owner.id, "named", manifest=MANIFEST, prefix=f"models/{version}")
        started = work.models.start_import(owner.id, "open").id
        work.garbage.add(f"datasets/{pushed}", bytes_total=1, after_s=86_400)
        blob = work.blobs.hold([Piece(bytes=2, sha256="b" * 64)])["b" * 64]
    named = [blob.key, f"models/{version}/state", f"models/{started}/state", f"artifacts/{active}/1/state"]
    foreign = ["models/readme", "artifacts/backup/1/state"]
    unnamed = [f"artifacts/{ended}/1/state", f"checkpoints/{gone}/1/step-1/state", f"datasets/{gone}/data.csv"]
    unnamed += [f"models/{gone}/config.json", f"models/{gone}/state", f"blobs/{gone}"]
    for key in (*named, *foreign, *unnamed, f"datasets/{pushed}/data.csv"):
        store.put_bytes(key, b"xx")
    now = datetime.now(UTC)
    assert UnnamedSweep(harness.database, store).run(now + UNNAMED_FOR - timedelta(minutes=5)) == 0, "too young"
    # In stretches of two objects or a few more, as many as it takes to come round.
    sweep = UnnamedSweep(harness.database, store, objects_max=2)
    later = now + UNNAMED_FOR + timedelta(minutes=5)
    assert sweep.run(later) <= 2
    stretches = len(list(store.list())) // 2 + 1
    for _ in range(stretches):
        sweep.run(later)
    with harness.database.unit_of_work() as work:
        found = set(work.session.scalars(text("SELECT prefix FROM garbage"))) - {f"datasets/{pushed}"}
        expected = {f"artifacts/{ended}/1", f"checkpoints/{gone}/1/step-1", f"datasets/{gone}", f"models/{gone}"}
        expected.add(f"blobs/{gone}")
        assert found == expected
        assert work.garbage.bytes_waiting() == 2 * len(unnamed)
        work.session.execute(text("UPDATE garbage SET due_at = due_at - interval '1 hour'"))
    Housekeeper(harness.database, store).sweep_garbage()
    assert {item.key for item in store.list()} == {*named, *foreign, f"datasets/{pushed}/data.csv"}
    store.close()


def test_what_was_in_the_bucket_before_the_platform_stays(harness: Harness) -> None:
    """A new home on the bucket of one whose database was lost must not delete what a restore needs."""
    store = ObjectStore(replace(harness.store.settings, bucket=f"older-{uuid4().hex[:12]}"))
    store.ensure_bucket()
    store.put_bytes(f"models/{uuid4()}/model.safetensors", b"x")
    with harness.database.unit_of_work() as work:
        work.users.ensure("first")
        work.session.execute(text("UPDATE users SET created_at = now() + interval '1 hour'"))
    sweep, later = UnnamedSweep(harness.database, store), datetime.now(UTC) + 2 * UNNAMED_FOR
    assert sweep.run(later) == 0
    with harness.database.unit_of_work() as work:
        work.session.execute(text("UPDATE users SET created_at = now()"))
    assert sweep.run(later) == 1
    store.close()
