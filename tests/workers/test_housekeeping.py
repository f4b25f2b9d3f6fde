from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import text

from jobspecs.lifecycle import JobState
from jobspecs.manifest import Manifest, ManifestFile
from storage.object_wire import parsed_xml, xml_text
from tests.workers.harness import Harness
from workers.housekeeping import Housekeeper

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
    assert Housekeeper(harness.database, harness.store).sweep().checkpoints == 1
    assert stored(harness, f"checkpoints/{ended}") == []
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
    assert Housekeeper(harness.database, harness.store).sweep().imports == 1
    assert stored(harness, f"models/{old}") == []
    assert len(stored(harness, f"models/{new}")) == 1


def test_a_transfer_that_broke_off_is_dropped_after_a_day_and_a_running_one_is_not(harness: Harness) -> None:
    keeper = Housekeeper(harness.database, harness.store)
    upload_id = begin_multipart(harness, "artifacts/broken/1/model.safetensors")
    assert keeper.sweep().uploads == 0
    assert upload_id in {upload.upload_id for upload in harness.store.abandoned_uploads()}
    assert keeper.sweep(datetime.now(UTC) + timedelta(hours=25)).uploads >= 1
    assert upload_id not in {upload.upload_id for upload in harness.store.abandoned_uploads()}
