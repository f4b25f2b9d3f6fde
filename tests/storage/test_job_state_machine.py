"""Drives the repositories on a real PostgreSQL through arbitrary histories and compares them with a small model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from sqlalchemy import text

from jobspecs.lifecycle import ACTIVE, LOSSES_MAX, REASONS, TERMINAL, JobState, Loss, Reason, may
from jobspecs.manifest import Manifest, ManifestFile
from storage.database import Database

HOSTS = ("one", "two")
#: Longer than all histories take on the slowest machine: a lease ends only where a rule says so.
LEASE_S = 24 * 3600.0
#: No attempt gives these: the platform does.
NO_FAILURES = (Reason.poisoned, Reason.hosts_lost, Reason.cancelled_by_user, Reason.paused_by_user)
FAILURES = [reason for reason in Reason if reason not in NO_FAILURES]
MANIFEST = Manifest(artifact="model", files=(ManifestFile(path="model.safetensors", bytes=1, sha256="0" * 64),))
NEXT = {
    JobState.assigned: JobState.preparing,
    JobState.preparing: JobState.running,
    JobState.running: JobState.uploading,
    # It finished before it heard of the preemption.
    JobState.preempting: JobState.uploading,
    JobState.pausing: JobState.uploading,
}


@dataclass
class Expected:
    """What the model believes of a job."""

    state: JobState = JobState.queued
    fence: int = 0
    losses: Counter[Loss] = field(default_factory=Counter)
    step: int = 0
    avoids: set[str] = field(default_factory=set)
    host: str = ""
    committed: int = 0
    attempts: list[tuple[UUID, int]] = field(default_factory=list)


class JobHistories(RuleBasedStateMachine):
    """Submitters, a scheduler, two hosts, a reaper and impatient users, in any order."""

    database: Database
    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.expected: dict[UUID, Expected] = {}
        with self.database.unit_of_work() as work:
            self.owner = work.users.ensure(f"user-{uuid4()}")

    @rule(target=jobs)
    def submit(self) -> UUID:
        key = str(uuid4())
        first = self._submit(key)
        assert self._submit(key) == (first[0], False)
        assert first[1]
        self.expected[first[0]] = Expected()
        return first[0]

    @rule(job=jobs, host=st.sampled_from(HOSTS))
    def assign(self, job: UUID, host: str) -> None:
        expected = self.expected[job]
        with self.database.unit_of_work() as work:
            row = work.jobs.assign(job, host, lease_s=LEASE_S)
        assert (row is not None) == (expected.state is JobState.queued)
        if row is not None:
            expected.state, expected.fence, expected.host = JobState.assigned, expected.fence + 1, host
            assert row.fence == expected.fence

    @rule(job=jobs, stale=st.booleans())
    def the_host_goes_on(self, job: UUID, stale: bool) -> None:
        expected = self.expected[job]
        target = NEXT.get(expected.state, JobState.running)
        allowed = not stale and expected.state in NEXT
        with self.database.unit_of_work() as work:
            row = work.jobs.transition(job, target, actor="host:one", fence=expected.fence - stale)
        assert (row is not None) == allowed
        if row is not None:
            expected.state = target

    @rule(job=jobs, step=st.integers(1, 3), stale=st.booleans())
    def the_host_stores_a_checkpoint(self, job: UUID, step: int, stale: bool) -> None:
        expected = self.expected[job]
        fence = expected.fence - stale
        with self.database.unit_of_work() as work:
            stored = work.checkpoints.add(job, fence, step, prefix=f"checkpoints/{job}/{fence}", manifest=MANIFEST)
        assert stored == (not stale and expected.state not in TERMINAL)
        if stored and step > expected.step:
            expected.step = step
            expected.losses.clear()

    @rule(job=jobs, stale=st.booleans())
    def the_host_commits_a_result(self, job: UUID, stale: bool) -> None:
        expected = self.expected[job]
        with self.database.unit_of_work() as work:
            row = work.jobs.transition(job, JobState.succeeded, actor="host:one", fence=expected.fence - stale)
            if row is not None:
                work.models.add_version(
                    self.owner.id, "model", manifest=MANIFEST, prefix="artifacts/x", job_id=job, fence=row.fence
                )
        assert (row is not None) == (not stale and expected.state is JobState.uploading)
        if row is not None:
            expected.state = JobState.succeeded
            expected.committed += 1

    @rule(job=jobs, reason=st.sampled_from(FAILURES), stale=st.booleans())
    def the_attempt_ends_without_a_result(self, job: UUID, reason: Reason, stale: bool) -> None:
        expected = self.expected[job]
        with self.database.unit_of_work() as work:
            row = work.jobs.end_attempt(
                job, reason=reason, message="it ended", actor="host:one", fence=expected.fence - stale
            )
        assert (row is not None) == (not stale and expected.state in ACTIVE)
        if row is not None:
            self._attempt_ended(job, reason)
            assert JobState(row.state) is self.expected[job].state
            if row.state == JobState.queued:
                stopped = row.reason in (Reason.preempted, Reason.worker_stopped)
                lost = REASONS[reason].counts_as
                first_loss = lost is not None and self.expected[job].losses[lost] == 1
                assert (row.not_before is None) == (stopped or (first_loss and not REASONS[reason].avoids_host))

    @rule(job=jobs)
    def somebody_cancels(self, job: UUID) -> None:
        expected = self.expected[job]
        with self.database.unit_of_work() as work:
            row = work.jobs.request_cancel(job, actor="user:ada")
        assert (row is not None) == (expected.state not in TERMINAL)
        if expected.state in (JobState.queued, JobState.paused):
            expected.state = JobState.cancelled
        elif expected.state in ACTIVE:
            expected.state = JobState.cancelling

    @rule(job=jobs)
    def the_scheduler_preempts(self, job: UUID) -> None:
        expected = self.expected[job]
        with self.database.unit_of_work() as work:
            row = work.jobs.transition(job, JobState.preempting, actor="scheduler", reason=Reason.preempted)
        assert (row is not None) == may(expected.state, JobState.preempting)
        if row is not None:
            expected.state = JobState.preempting

    @rule(job=jobs)
    def somebody_pauses(self, job: UUID) -> None:
        expected = self.expected[job]
        with self.database.unit_of_work() as work:
            row = work.jobs.request_pause(job, actor="user:ada")
        target = JobState.paused if expected.state is JobState.queued else JobState.pausing
        assert (row is not None) == may(expected.state, target)
        if row is not None:
            expected.state = target

    @rule(job=jobs)
    def somebody_resumes(self, job: UUID) -> None:
        expected = self.expected[job]
        with self.database.unit_of_work() as work:
            row = work.jobs.resume(job, actor="user:ada")
        resumed = {JobState.paused: JobState.queued, JobState.pausing: JobState.preempting}
        assert (row is not None) == (expected.state in resumed)
        expected.state = resumed.get(expected.state, expected.state)

    @rule(job=jobs, stale=st.booleans())
    def the_host_renews_its_lease(self, job: UUID, stale: bool) -> None:
        expected = self.expected[job]
        with self.database.unit_of_work() as work:
            state = work.jobs.renew_lease(job, expected.fence - stale, lease_s=LEASE_S)
        held = not stale and expected.state in ACTIVE
        assert state == (expected.state if held else None)

    @rule(job=jobs)
    def the_host_vanishes_and_the_reaper_comes(self, job: UUID) -> None:
        with self.database.unit_of_work() as work:
            # Time passes: the only way to have an expired lease without waiting for it.
            work.session.execute(
                text(
                    "UPDATE jobs SET lease_until = clock_timestamp() - interval '1 s' "
                    "WHERE id = :id AND host IS NOT NULL"
                ),
                {"id": job},
            )
        with self.database.unit_of_work() as work:
            reaped = {row.id for row in work.jobs.reap()}
        assert reaped == ({job} if self.expected[job].state in ACTIVE else set())
        if reaped:
            self._attempt_ended(job, Reason.lease_expired)

    @rule(job=consumes(jobs))
    def a_finished_job_is_left_alone(self, job: UUID) -> None:
        """Takes a job out of the game, so that long histories don't only poke ended jobs; it is still checked below."""

    @invariant()
    def every_job_is_where_its_history_says(self) -> None:
        with self.database.unit_of_work() as work:
            for job_id, expected in self.expected.items():
                row = work.jobs.get(job_id)
                assert row is not None
                assert (JobState(row.state), row.fence) == (expected.state, expected.fence)
                losses = expected.losses
                assert (row.crash_count, row.host_losses) == (losses[Loss.crash], losses[Loss.host])
                assert set(row.avoided_hosts) == expected.avoids
                assert (row.host is not None) == (row.lease_until is not None) == (expected.state in ACTIVE)
                assert (row.finished_at is not None) == (expected.state in TERMINAL)
                history = work.jobs.transitions_after(job_id)
                assert [step.seq for step in history] == list(range(1, row.transition_seq + 1))
                assert history[-1].state == row.state
                for before, after in pairwise(history):
                    assert after.source == before.state
                    assert may(JobState(before.state), JobState(after.state))
                version = work.models.of_job(job_id)
                assert (version is not None) == (expected.committed == 1) == (expected.state is JobState.succeeded)
                assert version is None or version.fence == row.fence

    def _submit(self, key: str) -> tuple[UUID, bool]:
        with self.database.unit_of_work() as work:
            row, created = work.jobs.submit(
                self.owner.id,
                actor=f"user:{self.owner.name}",
                spec={"kind": "train-classifier", "name": "model", "priority": 0},
                inputs={},
                slots=1,
                memory_bytes=1,
                gpus=0,
                max_runtime_s=3600,
                request_sha256="0",
                idempotency_key=key,
            )
        return row.id, created

    def _attempt_ended(self, job: UUID, reason: Reason) -> None:
        expected = self.expected[job]
        rule_of_reason = REASONS[reason]
        if expected.state is JobState.cancelling:
            expected.state = JobState.cancelled
        elif expected.state is JobState.preempting and rule_of_reason.retried:
            expected.state = JobState.queued
        elif expected.state is JobState.pausing and rule_of_reason.retried:
            expected.state = JobState.paused
        elif not rule_of_reason.retried:
            expected.state = JobState.failed
        else:
            lost = rule_of_reason.counts_as
            expected.state = JobState.queued
            if lost is not None:
                expected.losses[lost] += 1
                if expected.losses[lost] >= LOSSES_MAX[lost]:
                    expected.state = JobState.failed
            if rule_of_reason.avoids_host and expected.state is JobState.queued:
                expected.avoids.add(expected.host)


@pytest.fixture
def database(database_url: str) -> object:
    with closing(Database(database_url)) as database:
        yield database


def test_no_history_breaks_the_state_machine(database: Database) -> None:
    JobHistories.database = database
    run_state_machine_as_test(
        JobHistories,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )


def test_of_many_claimants_at_once_one_gets_the_job(
    database: Database, in_parallel: Callable[..., list[object]]
) -> None:
    with database.unit_of_work() as work:
        owner = work.users.ensure("ada")
        job, _ = work.jobs.submit(
            owner.id,
            actor="user:ada",
            spec={"kind": "train-classifier", "name": "model", "priority": 0},
            inputs={},
            slots=1,
            memory_bytes=1,
            gpus=0,
            max_runtime_s=3600,
            request_sha256="0",
        )

    def claim(host: int) -> int | None:
        with database.unit_of_work() as work:
            row = work.jobs.assign(job.id, f"host-{host}", lease_s=LEASE_S)
            return None if row is None else row.fence

    fences = in_parallel(claim, 16)
    assert sorted(fences, key=str) == [1, *[None] * 15]
