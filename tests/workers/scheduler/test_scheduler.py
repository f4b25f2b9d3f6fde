from __future__ import annotations

import time

from jobspecs.lifecycle import JobState
from scheduling.decisions import Resources
from tests.workers.harness import Harness
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
    assert (job.state, job.fence, job.crash_count) == (JobState.assigned, 2, 1)


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


def test_a_job_submitted_while_no_scheduler_runs_starts_when_one_comes(harness: Harness) -> None:
    announce(harness, "one")
    job_id = harness.submit("plain", memory_bytes=1)
    harness.start_scheduler()
    harness.wait(job_id, JobState.assigned)
    harness.until(lambda: _unsent(harness) == 0, 10, "the outbox to be drained")


def test_a_queued_job_is_cancelled_at_once_and_never_starts(harness: Harness) -> None:
    job_id = harness.submit("plain", memory_bytes=1)
    harness.cancel(job_id)
    assert harness.job(job_id).state == JobState.cancelled
    announce(harness, "one")
    assert tick(harness.database, lease_s=60) == 0


def _unsent(harness: Harness) -> int:
    with harness.database.unit_of_work() as work:
        return work.outbox.count_unsent()
