"""Faults while a real model trains. Nothing acknowledged is lost, and what comes out is what an unbroken run gives."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from uuid import UUID

import redis

from deploy.embedded.stack import EmbeddedServices
from jobspecs.lifecycle import JobState, Reason
from jobspecs.manifest import Manifest
from tests.faults.conftest import TRAINING, dataset, folder_of
from tests.workers.harness import Harness


def test_the_real_zygote_has_one_thread(platform: Harness) -> None:
    assert len(list(Path(f"/proc/{platform.zygote_pid()}/task").iterdir())) == 1


def test_a_killed_child_resumes_and_ends_with_the_same_weights(platform: Harness, unbroken: str) -> None:
    job_id = platform.submit("child-killed", training=TRAINING)
    platform.wait_for_checkpoint(job_id)
    platform.kill_child(job_id)
    _same_result_in(2, platform, job_id, unbroken)
    # Its host noticed; nobody had to wait for the lease to expire.
    ends = [
        (row.actor, row.reason) for row in platform.transitions(job_id) if row.state == JobState.queued and row.seq > 1
    ]
    assert ends == [("host:one", Reason.crashed)]


def test_a_killed_worker_that_comes_back_resumes_its_job(platform: Harness, unbroken: str) -> None:
    job_id = platform.submit("worker-killed", training=TRAINING)
    platform.wait_for_checkpoint(job_id)
    child = platform.child_pid(job_id)
    worker = platform.worker()
    worker.kill()
    worker.wait()
    platform.until(lambda: not Path(f"/proc/{child}").exists(), 5, "the killed worker's child to die with it")
    platform.start_worker()
    platform.wait_for_host(seconds=120)
    _same_result_in(2, platform, job_id, unbroken)
    folders = folder_of(platform) / "attempts"
    platform.until(lambda: not list(folders.iterdir()), 5, "the attempts' folders to be removed")


def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(platform: Harness, unbroken: str) -> None:
    job_id = platform.submit("checkpoint-damaged", training=TRAINING)
    platform.until(lambda: len(_checkpoints(platform, job_id)) == 2, 60, "two checkpoints")
    platform.pause_child(job_id)
    newest = _checkpoints(platform, job_id)[0]
    flip_a_bit(platform, f"{newest[1]}/model.safetensors")
    platform.kill_child(job_id)
    _same_result_in(2, platform, job_id, unbroken)
    warnings = [event["message"] for event in platform.events(job_id, "log") if event["level"] == "warning"]
    assert any(f"step {newest[0]}" in str(message) for message in warnings)


def test_redis_killed_and_emptied_during_training_changes_nothing(
    platform: Harness, services: EmbeddedServices, unbroken: str
) -> None:
    job_id = platform.submit("redis-killed", training=TRAINING)
    platform.wait_for_step(job_id, 20)
    services.redis.kill()
    platform.wait_for_step(job_id, 60)
    services.redis.start()
    with redis.Redis.from_url(services.redis_url) as client:
        client.flushall()
    _same_result_in(1, platform, job_id, unbroken)


def test_without_redis_jobs_are_found_by_polling(platform: Harness, services: EmbeddedServices, unbroken: str) -> None:
    services.redis.pause()
    try:
        job_id = platform.submit("redis-paused", training=TRAINING)
        platform.wait(job_id, JobState.running, seconds=30)
        # The proportion of a minute without Redis to a lease of a minute.
        time.sleep(float(platform.environment["EIGENWERK_LEASE_S"]))
        _same_result_in(1, platform, job_id, unbroken)
    finally:
        services.redis.resume()


def test_a_learning_rate_of_a_million_ends_with_nan_loss(platform: Harness) -> None:
    job_id = platform.submit("diverging", training={**TRAINING, "learning_rate": 1e6})
    job = platform.wait(job_id)
    assert (job.state, job.reason) == (JobState.failed, Reason.nan_loss)
    assert platform.attempts(job_id) == 1


def test_a_flipped_bit_in_a_stored_data_set_is_refused_by_name(platform: Harness) -> None:
    good = platform.dataset
    platform.prepare_inputs(folder_of(platform).parent / "encoder", dataset(seed=4))
    assert platform.dataset is not None
    flip_a_bit(platform, platform.dataset.key)
    job_id = platform.submit("data-damaged", training=TRAINING)
    key, platform.dataset = platform.dataset.key, good
    job = platform.wait(job_id)
    assert (job.state, job.reason) == (JobState.failed, Reason.corrupt_artifact)
    assert key in str(job.message)
    assert platform.attempts(job_id) == 1


def test_cancelling_during_training_ends_once_and_keeps_only_what_a_retry_needs(platform: Harness) -> None:
    job_id = platform.submit("cancelled", training={**TRAINING, "epochs": 500})
    platform.wait_for_checkpoint(job_id)
    child = platform.child_pid(job_id)
    platform.cancel(job_id)
    assert platform.wait(job_id).state == JobState.cancelled
    assert not Path(f"/proc/{child}").exists()
    kept = {f"checkpoints/{job_id}/1/{prefix.rsplit('/', 1)[-1]}" for _, prefix in _checkpoints(platform, job_id)}
    assert kept
    assert {found.key.rsplit("/", 1)[0] for found in platform.store.list(f"checkpoints/{job_id}/")} == kept
    assert not list(platform.store.list(f"artifacts/{job_id}/"))


def test_the_store_away_during_upload_is_waited_for(
    platform: Harness, services: EmbeddedServices, unbroken: str
) -> None:
    job_id = platform.submit("store-away", training=TRAINING)
    platform.wait_for_step(job_id, 20)
    services.objects.kill()
    try:
        platform.wait(job_id, JobState.uploading)
        platform.until(lambda: _says(platform, job_id, "not stored yet"), 60, "a try in vain")
        assert platform.job(job_id).state == JobState.uploading
    finally:
        services.objects.start()
    _same_result_in(1, platform, job_id, unbroken)


def test_cancelling_during_upload_leaves_no_artifact(platform: Harness, services: EmbeddedServices) -> None:
    job_id = platform.submit("cancelled-uploading", training=TRAINING)
    platform.wait_for_step(job_id, 20)
    services.objects.kill()
    try:
        platform.wait(job_id, JobState.uploading)
        platform.cancel(job_id)
        assert platform.wait(job_id).state == JobState.cancelled
    finally:
        services.objects.start()
    assert platform.result(job_id) is None
    assert not list(platform.store.list(f"artifacts/{job_id}/"))


def test_a_worker_paused_beyond_its_lease_writes_nothing_when_it_wakes(platform: Harness, unbroken: str) -> None:
    job_id = platform.submit("worker-paused", training=TRAINING)
    platform.wait_for_checkpoint(job_id)
    child = platform.child_pid(job_id)
    platform.worker().send_signal(signal.SIGSTOP)
    platform.end_lease(job_id)
    platform.until(lambda: platform.attempts(job_id) == 2, 30, "the lease to expire and the job to be given away")
    platform.worker().send_signal(signal.SIGCONT)
    platform.until(lambda: not Path(f"/proc/{child}").exists(), 5, "the fenced child to be killed")
    _same_result_in(2, platform, job_id, unbroken)


def test_every_promise_was_kept(platform: Harness) -> None:
    platform.check_promise()


def _says(platform: Harness, job_id: UUID, text: str) -> bool:
    return any(text in str(event["message"]) for event in platform.events(job_id, "log"))


def flip_a_bit(platform: Harness, key: str) -> None:
    """In the middle of a stored object; its size stays."""
    body = bytearray(platform.store.get_bytes(key))
    body[len(body) // 2] ^= 1
    platform.store.put_bytes(key, bytes(body))


def _checkpoints(platform: Harness, job_id: UUID) -> list[tuple[int, str]]:
    with platform.database.unit_of_work() as work:
        return [(row.step, row.prefix) for row in work.checkpoints.newest_first(job_id)]


def _same_result_in(attempts: int, platform: Harness, job_id: UUID, unbroken: str) -> None:
    job = platform.wait(job_id, seconds=120)
    assert job.state == JobState.succeeded, platform.history(job_id)
    assert platform.attempts(job_id) == attempts
    assert platform.weights_sha256(job_id) == unbroken
    version = platform.result(job_id)
    assert version is not None
    assert Manifest.model_validate(version.manifest).task == "text-classification"
