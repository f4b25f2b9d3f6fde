"""Jobs with a scripted runner, through a real scheduler and a real worker."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
import redis

from deploy.embedded.stack import EmbeddedServices
from jobspecs.lifecycle import LOSSES_MAX, JobState, Loss, Reason
from storage.progress import stream_name
from tests.workers.harness import DATASET, Harness, signal_tree


def test_a_job_goes_all_the_way(platform: Harness) -> None:
    job_id = platform.submit("plain")
    assert platform.wait(job_id, seconds=30).state == JobState.succeeded
    states = [row.state for row in platform.transitions(job_id)]
    assert states == ["queued", "assigned", "preparing", "running", "uploading", "succeeded"]
    stages = [event["stage"] for event in platform.events(job_id, "stage")]
    assert stages == ["fetch", "train", "upload"]
    folders = platform.folder / "scratch-one" / "attempts"
    platform.until(lambda: not list(folders.iterdir()), 5, "the attempt's folder to be removed")
    platform.check_promise()


def test_the_data_sets_that_choose_and_judge_are_fetched_beside_the_one_that_trains(platform: Harness) -> None:
    job_id = platform.submit("plain", judged=True)
    assert platform.wait(job_id, seconds=30).state == JobState.succeeded
    version = platform.result(job_id)
    assert version is not None
    with platform.database.unit_of_work() as work:
        files = {file.path: file for file in work.blobs.files_of(version)}
    for role, columns in (("held_out", ["a", "b"]), ("test", ["c", "d"])):
        text, header, origin = json.loads(platform.store.get_bytes(files[f"{role}.json"].pieces[0].key))
        assert (text.encode(), header) == (DATASET, columns)
        assert origin["sha256"] == hashlib.sha256(DATASET).hexdigest() and origin["reference"].endswith("@1")


def test_every_event_is_in_redis_and_in_postgresql_under_the_same_number(platform: Harness) -> None:
    job_id = platform.submit("log")
    platform.wait(job_id)
    with platform.database.unit_of_work() as work:
        stored = [(event.fence, event.number) for event in work.events.after(job_id)]
    assert stored == [(1, number) for number in range(1, len(stored) + 1)]
    with redis.Redis.from_url(platform.environment["EIGENWERK_REDIS_URL"]) as client:
        entries = client.xrange(stream_name(job_id))
    assert [entry.decode() for entry, _ in entries] == [f"{fence}-{number}" for fence, number in stored]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("invalid", Reason.invalid_dataset),
        ("memory", Reason.out_of_memory),
        ("defect", Reason.internal_error),
    ],
)
def test_a_failure_that_is_the_jobs_own_is_not_retried(platform: Harness, name: str, reason: Reason) -> None:
    job_id = platform.submit(name)
    job = platform.wait(job_id)
    assert (job.state, job.reason) == (JobState.failed, reason)
    assert platform.attempts(job_id) == 1


def test_a_job_for_which_the_disk_is_too_small_is_tried_again_and_ends_with_that_reason(platform: Harness) -> None:
    job_id = platform.submit("wrapped-disk")
    for attempt in range(1, LOSSES_MAX[Loss.host]):
        platform.until(lambda: platform.job(job_id).host_losses >= attempt, 30)  # noqa: B023
        platform.make_due(job_id)
    job = platform.wait(job_id)
    assert (job.state, job.reason, job.crash_count) == (JobState.failed, Reason.disk_full, 0)
    assert platform.attempts(job_id) == LOSSES_MAX[Loss.host]


def test_a_job_that_kills_its_process_three_times_is_poisoned(platform: Harness) -> None:
    job_id = platform.submit("segfault")
    platform.until(lambda: platform.job(job_id).crash_count >= 2, 30)
    # The third attempt waits for its back-off, which a test need not.
    platform.make_due(job_id)
    job = platform.wait(job_id)
    assert (job.state, job.reason, job.crash_count) == (JobState.failed, Reason.poisoned, 3)
    assert platform.attempts(job_id) == 3
    assert "SIGSEGV" in str(job.message)


def test_a_crashed_job_resumes_from_its_checkpoint(platform: Harness) -> None:
    job_id = platform.submit("steps")
    step = platform.wait_for_checkpoint(job_id)
    platform.kill_child(job_id)
    platform.until(lambda: platform.attempts(job_id) == 2, 20)
    # The first attempt may itself have come far beyond its checkpoint before it was killed.
    platform.until(lambda: bool(_steps_of(platform, job_id, 2)), 60, "the second attempt's first step")
    assert _steps_of(platform, job_id, 2)[0] == step
    platform.cancel(job_id)
    assert platform.wait(job_id).state == JobState.cancelled


def test_a_retry_goes_on_from_the_checkpoint_of_the_ended_job(platform: Harness) -> None:
    ended = platform.submit("steps")
    step = platform.wait_for_checkpoint(ended)
    platform.cancel(ended)
    platform.wait(ended)
    with platform.database.unit_of_work() as work:
        row = work.jobs.get(ended)
        assert row is not None
        retry, _ = work.jobs.submit(
            row.owner_id,
            actor="user:tester",
            spec=row.spec,
            inputs=row.inputs,
            slots=1,
            memory_bytes=1,
            gpus=0,
            max_runtime_s=row.max_runtime_s,
            request_sha256="0",
            retry_of=ended,
        )
        assert work.checkpoints.adopt(ended, retry.id) == step
    # Its own first checkpoint, and the adopted one behind it.
    platform.wait_for_step(retry.id, step + 40)
    assert _steps_of(platform, retry.id, 1)[0] == step
    platform.cancel(retry.id)
    platform.wait(retry.id)


def test_a_paused_job_gives_its_place_back_and_resumes_from_where_it_stopped(platform: Harness) -> None:
    job_id = platform.submit("steps")
    platform.wait_for_step(job_id, 30)
    with platform.database.unit_of_work() as work:
        assert work.jobs.request_pause(job_id, actor="user:tester")
    job = platform.wait(job_id, JobState.paused)
    assert (job.reason, job.host, job.finished_at, job.crash_count) == (Reason.paused_by_user, None, None, 0)
    assert platform.attempts(job_id) == 1
    with platform.database.unit_of_work() as work:
        stopped_at = work.checkpoints.newest_first(job_id)[0].step
        assert work.jobs.resume(job_id, actor="user:tester")
    # Further than the checkpoint that it wrote by itself at step 20.
    assert stopped_at >= 30
    platform.until(lambda: bool(_steps_of(platform, job_id, 2)), 60, "the second attempt's first step")
    assert _steps_of(platform, job_id, 2)[0] - stopped_at < 10
    platform.cancel(job_id)
    assert platform.wait(job_id).state == JobState.cancelled


def test_cancelling_a_running_job_ends_its_process_soon(platform: Harness) -> None:
    job_id = platform.submit("sleep")
    platform.wait(job_id, JobState.running)
    pid = platform.child_pid(job_id)
    began = time.monotonic()
    platform.cancel(job_id)
    job = platform.wait(job_id)
    assert (job.state, job.reason) == (JobState.cancelled, Reason.cancelled_by_user)
    # Its process ends by SIGTERM; that it is killed after the grace is tested below.
    assert time.monotonic() - began < float(platform.environment["EIGENWERK_KILL_GRACE_S"]) + 10
    assert not Path(f"/proc/{pid}").exists()


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(platform: Harness) -> None:
    job_id = platform.submit("deaf")
    platform.until(lambda: any(event["stage"] == "deaf" for event in platform.events(job_id, "stage")), 20)
    pid = platform.child_pid(job_id)
    platform.cancel(job_id)
    assert platform.wait(job_id).state == JobState.cancelled
    assert not Path(f"/proc/{pid}").exists()


def test_a_job_that_runs_too_long_ends_with_timeout(platform: Harness) -> None:
    job_id = platform.submit("sleep", resources={"max_runtime": "1s"})
    job = platform.wait(job_id)
    assert (job.state, job.reason) == (JobState.failed, Reason.timeout)


def test_an_attempt_whose_fence_has_passed_is_killed_and_writes_nothing(platform: Harness) -> None:
    job_id = platform.submit("steps")
    platform.wait_for_step(job_id, 10)
    pid = platform.child_pid(job_id)
    with platform.database.unit_of_work() as work:
        # As the reaper does it to a host that was silent for too long; the host does not know.
        work.jobs.end_attempt(job_id, reason=Reason.lease_expired, message="test", actor="reaper")
        work.jobs.assign(job_id, "elsewhere", lease_s=60)
    platform.until(lambda: not Path(f"/proc/{pid}").exists(), 10, "the fenced child to be killed")
    with platform.database.unit_of_work() as work:
        work.jobs.request_cancel(job_id, actor="user:tester")
        work.jobs.end_attempt(job_id, reason=Reason.crashed, message="test", actor="host:elsewhere", fence=2)
    assert {row.actor for row in platform.transitions(job_id) if row.fence == 2} <= {
        "reaper", "scheduler", "user:tester", "host:elsewhere",
    }  # fmt: skip


def test_a_dead_zygote_is_replaced_and_its_job_goes_on(platform: Harness) -> None:
    job_id = platform.submit("steps")
    platform.wait_for_checkpoint(job_id)
    zygote = platform.zygote_pid()
    os.kill(zygote, signal.SIGKILL)
    platform.until(lambda: platform.attempts(job_id) == 2, 20)
    platform.wait(job_id, JobState.running, seconds=30)
    assert platform.zygote_pid() != zygote
    platform.cancel(job_id)
    platform.wait(job_id)


def test_a_stopping_worker_checkpoints_and_gives_the_job_back(harness: Harness) -> None:
    harness.start_scheduler()
    worker = harness.start_worker()
    harness.wait_for_host()
    job_id = harness.submit("steps")
    harness.wait_for_step(job_id, 50)
    assert harness.stop(worker) == 0
    job = harness.job(job_id)
    assert (job.state, job.reason, job.crash_count) == (JobState.queued, Reason.worker_stopped, 0)
    with harness.database.unit_of_work() as work:
        assert work.checkpoints.newest_first(job_id)[0].step >= 50
        assert [host.accepting for host in work.hosts.alive()] == [False]
    assert not list((harness.folder / "scratch-one" / "attempts").iterdir())


def test_when_a_worker_dies_for_good_another_host_resumes_its_job(harness: Harness) -> None:
    harness.start_scheduler()
    first = harness.start_worker("one")
    harness.wait_for_host("one")
    job_id = harness.submit("steps")
    step = harness.wait_for_checkpoint(job_id)
    harness.start_worker("two")
    harness.wait_for_host("two")
    first.kill()
    first.wait()
    with harness.database.unit_of_work() as work:
        # A dead host is silent for 30 s before it gets no more jobs; the test need not wait for that.
        work.hosts.announce("one", slots=1, memory_bytes=1, gpus=0, accepting=False)
    harness.until(lambda: harness.attempts(job_id) == 2, 15, "the lease to expire")
    harness.wait(job_id, JobState.running)
    assert harness.job(job_id).host == "two"
    assert [row.reason for row in harness.transitions(job_id) if row.actor == "reaper"] == [Reason.lease_expired]
    harness.until(lambda: bool(_steps_of(harness, job_id, 2)), 10, "progress of the second attempt")
    assert _steps_of(harness, job_id, 2)[0] == step


def test_postgresql_killed_during_a_job_delays_it_and_loses_nothing(
    harness: Harness, services: EmbeddedServices
) -> None:
    scheduler = harness.start_scheduler()
    worker = harness.start_worker()
    harness.wait_for_host()
    job_id = harness.submit("steps")
    harness.wait_for_step(job_id, 20)
    services.postgres.kill()
    time.sleep(1)
    services.postgres.start()
    harness.wait_for_step(job_id, 300)
    assert harness.attempts(job_id) == 1
    other = harness.submit("plain")
    assert harness.wait(other).state == JobState.succeeded
    with harness.database.unit_of_work() as work:
        numbers = [event.number for event in work.events.after(job_id, limit=10_000)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert harness.stop(worker) == 0
    assert harness.stop(scheduler) == 0


def test_postgresql_away_for_longer_than_the_lease_kills_the_child_in_time(
    harness: Harness, services: EmbeddedServices
) -> None:
    harness.start_scheduler()
    harness.start_worker()
    harness.wait_for_host()
    job_id = harness.submit("steps")
    harness.wait_for_checkpoint(job_id)
    child = harness.child_pid(job_id)
    lease_until = harness.job(job_id).lease_until
    assert lease_until is not None
    paused_at = time.monotonic()
    # Also the backends: a connection that is open already would otherwise still be answered, and the lease renewed.
    frozen = signal_tree(services.postgres.pid, signal.SIGSTOP)
    try:
        harness.until(lambda: not Path(f"/proc/{child}").exists(), 10, "the host to fence itself off")
        # Before the lease can expire, and not at the first renewal that fails.
        assert datetime.now(UTC) < lease_until
        assert time.monotonic() - paused_at > 1
        harness.until(lambda: datetime.now(UTC) > lease_until + timedelta(seconds=1), 20, "the lease to expire")
    finally:
        for pid in reversed(frozen):
            os.kill(pid, signal.SIGCONT)
    harness.until(lambda: harness.attempts(job_id) == 2, 20, "the job to be given away again")
    harness.wait(job_id, JobState.running)


def _steps_of(harness: Harness, job_id: UUID, fence: int) -> list[int]:
    with harness.database.unit_of_work() as work:
        events = work.events.after(job_id, fence, 0, limit=100_000, kinds=["progress"])
    return [event.event.step for event in events if event.event.type == "progress"]
