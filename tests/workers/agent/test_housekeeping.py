from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from jobspecs.lifecycle import JobState
from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.rights import Reach
from storage.object_wire import parsed_xml, xml_text
from storage.objects import ObjectStore, ObjectStoreUnavailable
from tests.workers.harness import Harness
from workers.agent.housekeeping import Housekeeper

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


def test_checkpoints_of_ended_jobs_go_and_those_of_others_stay(harness: Harness) -> None:
    ended, active = job_with_checkpoint(harness, "ended"), job_with_checkpoint(harness, "active")
    with harness.database.unit_of_work() as work:
        work.jobs.transition(ended, JobState.failed, actor="reaper")
    # As a worker leaves it that is killed before it has written the row.
    harness.store.put_bytes(f"checkpoints/{ended}/1/step-2/state", b"x")
    assert Housekeeper(harness.database, harness.store).sweep().checkpoints == 2
    assert stored(harness, f"checkpoints/{ended}") == []
    with harness.database.unit_of_work() as work:
        assert not work.checkpoints.newest_first(ended)
    assert len(stored(harness, f"checkpoints/{active}")) == 1


def test_an_import_that_nobody_completed_goes_after_a_week(harness: Harness) -> None:
    with harness.database.unit_of_work() as work:
        owner = work.users.ensure("tester")
        old, new = (work.models.start_import(owner.id, name).id for name in ("old", "new"))
        work.models.add_import_file(old, MANIFEST.files[0])
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
