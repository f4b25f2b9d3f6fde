from __future__ import annotations

import signal
import socket
import time
from contextlib import closing
from dataclasses import replace
from uuid import UUID

from sqlalchemy import text

from jobspecs.lifecycle import LOSSES_MAX, JobState, Loss, Reason
from jobspecs.manifest import Manifest, ManifestFile
from scheduling.decisions import Resources
from storage.settings import Settings
from tests.workers.harness import Harness
from workers.scheduler.__main__ import open_database
from workers.scheduler.loop import tick
from workers.scheduler.snapshot import take_snapshot


def announce(harness: Harness, name: str, *, slots: int = 2, accepting: bool = True) -> None:
    with harness.database.unit_of_work() as work:
        work.hosts.announce(name, slots=slots, memory_bytes=100, gpus=0, accepting=accepting)


def test_a_snapshot_counts_what_is_in_use_and_leaves_out_hosts_that_take_nothing(harness: Harness) -> None:
    announce(harness, "one")
    announce(harness, "stopping", accepting=False)
    job_id = harness.submit("plain", memory_bytes=60)
    harness.submit("plain", memory_bytes=60)
    assert tick(harness.database, lease_s=60) == 1
    with harness.database.unit_of_work() as work:
        snapshot = take_snapshot(work)
    assert [(host.name, host.free) for host in snapshot.hosts] == [("one", Resources(1, 40))]
    assert len(snapshot.waiting) == 1
    assert harness.job(job_id).state == JobState.assigned
    # No second one fits: the memory is given away.
    assert tick(harness.database, lease_s=60) == 0


def test_an_expired_lease_is_queued_and_given_away_again(harness: Harness) -> None:
    announce(harness, "one")
    job_id = harness.submit("plain", memory_bytes=1)
    tick(harness.database, lease_s=0.01)
    time.sleep(0.05)
    tick(harness.database, lease_s=60)
    job = harness.job(job_id)
    assert (job.state, job.fence, job.crash_count, job.host_losses) == (JobState.assigned, 2, 0, 1)


def test_a_job_that_a_host_could_not_run_goes_to_another_and_back_when_there_is_none(harness: Harness) -> None:
    announce(harness, "one")
    announce(harness, "two", slots=1)
    job_id = harness.submit("plain", memory_bytes=1)
    for expected in ("one", "two"):
        tick(harness.database, lease_s=60)
        assert harness.job(job_id).host == expected
        with harness.database.unit_of_work() as work:
            work.jobs.end_attempt(job_id, reason=Reason.disk_full, message="full", actor="host")
        harness.make_due(job_id)
    assert harness.job(job_id).avoided_hosts == ["one", "two"]
    assert tick(harness.database, lease_s=60) == 1
    with harness.database.unit_of_work() as work:
        work.jobs.end_attempt(job_id, reason=Reason.worker_stopped, message="", actor="host")
        # Half an hour later.
        work.session.execute(text("UPDATE jobs SET avoid_until = avoid_until - interval '30 min'"))
    assert harness.job(job_id).avoided_hosts == []


def test_hosts_that_die_under_a_job_that_makes_progress_do_not_end_it(harness: Harness) -> None:
    job_id = harness.submit("plain", memory_bytes=1)
    for step in range(1, 2 * LOSSES_MAX[Loss.host]):
        _assign_and_lose(harness, job_id, checkpoint_at=step)
        assert (harness.job(job_id).state, harness.job(job_id).host_losses) == (JobState.queued, 1)
    for _ in range(1, LOSSES_MAX[Loss.host] - 1):
        # The same step again is no progress.
        _assign_and_lose(harness, job_id, checkpoint_at=step)
    assert harness.job(job_id).state == JobState.queued
    _assign_and_lose(harness, job_id)
    job = harness.job(job_id)
    assert (job.state, job.reason, job.crash_count) == (JobState.failed, Reason.hosts_lost, 0)


def _assign_and_lose(harness: Harness, job_id: UUID, checkpoint_at: int | None = None) -> None:
    with harness.database.unit_of_work() as work:
        row = work.jobs.assign(job_id, "one", lease_s=0.0)
        assert row is not None
        if checkpoint_at is not None:
            manifest = Manifest(artifact="checkpoint", files=(ManifestFile(path="state", bytes=1, sha256="0" * 64),))
            work.checkpoints.add(job_id, row.fence, checkpoint_at, prefix=f"checkpoints/{job_id}", manifest=manifest)
    with harness.database.unit_of_work() as work:
        assert work.jobs.reap()


def test_of_two_schedulers_one_leads_and_the_other_takes_over_when_it_dies(harness: Harness) -> None:
    first, second = harness.start_scheduler(), harness.start_scheduler()
    announce(harness, "one", slots=20)
    jobs = [harness.submit("plain", memory_bytes=1) for _ in range(10)]
    for job_id in jobs:
        harness.wait(job_id, JobState.assigned)
    first.kill()
    first.wait()
    later = [harness.submit("plain", memory_bytes=1) for _ in range(3)]
    for job_id in later:
        harness.wait(job_id, JobState.assigned)
    assert [harness.attempts(job_id) for job_id in (*jobs, *later)] == [1] * 13
    assert harness.stop(second) == 0


def test_a_leader_that_hangs_is_replaced_and_does_no_harm_when_it_goes_on(harness: Harness) -> None:
    quick = {"EIGENWERK_LEADER_SILENT_S": "2", "EIGENWERK_POLL_S": "0.3"}
    processes = [harness.start_scheduler(**quick) for _ in range(2)]
    announce(harness, "one", slots=20)
    harness.wait(harness.submit("plain", memory_bytes=1), JobState.assigned)
    pid = int(_leader(harness).split(":")[1])
    hung = next(process for process in processes if process.pid == pid)
    hung.send_signal(signal.SIGSTOP)
    jobs = [harness.submit("plain", memory_bytes=1) for _ in range(5)]
    try:
        for job_id in jobs:
            harness.wait(job_id, JobState.assigned, seconds=20)
    finally:
        hung.send_signal(signal.SIGCONT)
    assert _leader(harness) != f"{socket.gethostname()}:{pid}"
    later = [harness.submit("plain", memory_bytes=1) for _ in range(5)]
    for job_id in later:
        harness.wait(job_id, JobState.assigned)
    assert [harness.attempts(job_id) for job_id in (*jobs, *later)] == [1] * 10
    assert [harness.stop(process) for process in processes] == [0, 0]


def test_a_job_submitted_while_no_scheduler_runs_starts_when_one_comes(harness: Harness) -> None:
    announce(harness, "one")
    job_id = harness.submit("plain", memory_bytes=1)
    harness.start_scheduler()
    harness.wait(job_id, JobState.assigned)
    harness.until(lambda: _unsent(harness) == 0, 10, "the outbox to be drained")


def test_the_leader_tells_how_long_its_ticks_take_and_folds_what_was_counted(harness: Harness) -> None:
    for _ in range(3):
        harness.submit("plain", memory_bytes=1)
    harness.start_scheduler(EIGENWERK_POLL_S="0.2")

    def told() -> bool:
        with harness.database.unit_of_work() as work:
            leader = work.leader.newest()
            rows = work.session.execute(text("SELECT count, event FROM tallies")).all()
        return (
            leader is not None and leader.ticks > 0 < leader.ticks_s and [*map(tuple, rows)] == [(3, "job_submitted")]
        )

    harness.until(told, 20, "ticks and one row for three jobs")


def test_a_queued_job_is_cancelled_at_once_and_never_starts(harness: Harness) -> None:
    job_id = harness.submit("plain", memory_bytes=1)
    harness.cancel(job_id)
    assert harness.job(job_id).state == JobState.cancelled
    announce(harness, "one")
    assert tick(harness.database, lease_s=60) == 0


def _unsent(harness: Harness) -> int:
    with harness.database.unit_of_work() as work:
        return work.outbox.count_unsent()


def _leader(harness: Harness) -> str:
    with harness.database.unit_of_work() as work:
        leader = work.leader.newest()
    assert leader is not None
    return leader.name


def test_a_leader_that_waits_for_a_lock_gives_up_before_it_counts_as_silent(harness: Harness) -> None:
    settings = Settings.from_environment(harness.environment)
    for silent_s in (settings.leader_silent_s, 2.0):
        opened = open_database(replace(settings, leader_silent_s=silent_s))
        with closing(opened), opened.unit_of_work() as work:
            query = text("SELECT setting::int FROM pg_settings WHERE name = 'lock_timeout'")
            limit_ms = work.session.execute(query).scalar_one()
        assert 0 < limit_ms < silent_s * 1000 / 3
