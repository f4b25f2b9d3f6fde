"""What one call on the jobs table writes and tells: the figures that arbitrary histories don't look at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import InstrumentedAttribute

from jobspecs.lifecycle import JobState, Reason
from jobspecs.manifest import Manifest
from jobspecs.rights import Reach
from storage.database import Database, UnitOfWork
from storage.repositories.jobs.jobs import AVOIDED_S
from storage.tables import JobRow

LEASE_S = 60.0


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


def submit(work: UnitOfWork, owner: str = "ada", **more: Any) -> JobRow:
    asked: dict[str, Any] = {
        **{"spec": {"kind": "train-classifier", "name": "model", "priority": 3}, "inputs": {"model": {"digest": "d"}}},
        **{"slots": 2, "memory_bytes": 5, "gpus": 1, "max_runtime_s": 7.0, "request_sha256": "0"},
    }
    row, _ = work.jobs.submit(work.users.ensure(owner).id, actor=f"user:{owner}", **{**asked, **more})
    return row


def seconds_until(work: UnitOfWork, job_id: UUID, column: InstrumentedAttribute[Any]) -> float | None:
    query = select(func.extract("epoch", column - func.clock_timestamp())).where(JobRow.id == job_id)
    found = work.session.scalars(query).one()
    return None if found is None else float(found)


def messages(work: UnitOfWork) -> list[tuple[str, dict[str, Any]]]:
    """What the transaction announces, and forgets it."""
    work.session.flush()
    unsent = work.outbox.unsent()
    work.outbox.mark_sent([message.id for message in unsent])
    return [(message.topic, message.payload) for message in unsent]


def run(work: UnitOfWork, job_id: UUID) -> JobRow:
    work.jobs.assign(job_id, "one", lease_s=LEASE_S)
    work.jobs.transition(job_id, JobState.preparing, actor="host:one")
    row = work.jobs.transition(job_id, JobState.running, actor="host:one")
    assert row is not None
    return row


def test_a_job_is_queued_with_all_that_was_asked_and_announced(database: Database) -> None:
    with database.unit_of_work() as work:
        first = submit(work)
        row = submit(work, idempotency_key="k", warnings=[{"message": "w"}], retry_of=first.id)
        found = (row.kind, row.name, row.priority, row.slots, row.memory_bytes, row.gpus, row.max_runtime_s)
        assert found == ("train-classifier", "model", 3, 2, 5, 1, 7.0)
        assert (row.spec["name"], row.inputs, row.warnings) == (
            *("model", {"model": {"digest": "d"}}),
            [{"message": "w"}],
        )
        assert (row.retry_of, row.idempotency_key, row.request_sha256, row.state) == (first.id, "k", "0", "queued")
        assert messages(work) == [("schedule", {"job_id": str(one.id)}) for one in (first, row)]
        (step,) = work.jobs.transitions_after(row.id)
        assert (step.seq, step.source, step.state, step.fence, step.actor) == (1, None, "queued", 0, "user:ada")
        assert work.jobs.transitions_after(row.id, 1) == []


def test_one_owners_key_is_not_anothers(database: Database) -> None:
    with database.unit_of_work() as work:
        hers, his = submit(work, idempotency_key="k"), submit(work, "bob", idempotency_key="k")
        assert hers.id != his.id
        found = work.jobs.find_by_key(his.owner_id, "k")
        assert found is not None
        assert found.id == his.id
        assert submit(work, "bob", idempotency_key="k").id == his.id
        assert work.jobs.find_by_key(his.owner_id, "other") is None
        assert work.jobs.find(Reach.of(his.owner_id), hers.id) is None


def test_an_assigned_job_has_a_host_a_lease_and_the_hour_of_its_first_start(database: Database) -> None:
    with database.unit_of_work() as work:
        job = submit(work).id
        messages(work)
        with pytest.raises(ValueError, match="a host and a lease"):
            work.jobs.transition(job, JobState.assigned, actor="scheduler", host="one")
        with pytest.raises(ValueError, match="a host and a lease"):
            work.jobs.transition(job, JobState.assigned, actor="scheduler", lease_s=1)
        row = work.jobs.assign(job, "one", lease_s=LEASE_S)
        assert row is not None
        started_at = row.started_at
        assert row.assigned_at == started_at
        assert LEASE_S - 10 < (seconds_until(work, job, JobRow.lease_until) or 0) <= LEASE_S
        assert messages(work) == [("wake", {"host": "one", "job_id": str(job), "fence": 1})]
        work.jobs.hold_gpus(job, 0, ["9"])
        work.jobs.hold_gpus(job, 1, ["0"])
        work.session.refresh(row)
        assert row.gpu_ids == ["0"]
        ended = work.jobs.end_attempt(job, reason=Reason.worker_stopped, message="bye", actor="host:one")
        assert ended is not None
        assert (ended.gpu_ids, ended.reason, ended.message, ended.finished_at) == ([], "worker_stopped", "bye", None)
        again = work.jobs.assign(job, "two", lease_s=LEASE_S)
        assert again is not None
        assert again.started_at == started_at
        assert again.assigned_at is not None
        assert started_at is not None
        assert again.assigned_at > started_at
        assert (again.reason, again.message) == (None, None)


def test_who_must_act_is_woken(database: Database) -> None:
    with database.unit_of_work() as work:
        job = submit(work).id
        run(work, job)
        messages(work)
        woken = [("wake", {"host": "one", "job_id": str(job), "fence": 1})]
        work.jobs.transition(job, JobState.preempting, actor="scheduler")
        assert messages(work) == woken
        work.jobs.request_cancel(job, actor="user:ada")
        assert messages(work) == woken
        work.jobs.end_attempt(job, reason=Reason.crashed, message="", actor="host:one")
        assert messages(work) == [*woken, ("schedule", {"job_id": str(job)})]


def test_a_cancelled_job_says_who_wanted_it_and_is_cancelled_once(database: Database) -> None:
    with database.unit_of_work() as work:
        waiting, running = submit(work).id, submit(work).id
        run(work, running)
        for job, state in ((waiting, "cancelled"), (running, "cancelling")):
            row = work.jobs.request_cancel(job, actor="user:ada")
            assert row is not None
            assert (row.state, row.reason) == (state, "cancelled_by_user")
            assert work.jobs.transitions_after(job)[-1].actor == "user:ada"
        again = work.jobs.request_cancel(running, actor="user:ada")
        assert again is not None
        assert again.transition_seq == 5
        assert work.jobs.request_cancel(waiting, actor="user:ada") is None
        assert work.jobs.request_cancel(uuid4(), actor="user:ada") is None
        ended = work.jobs.end_attempt(running, reason=Reason.crashed, message="killed", actor="host:one", fence=1)
        assert ended is not None
        assert (ended.state, ended.reason, ended.crash_count) == ("cancelled", "cancelled_by_user", 0)


@pytest.mark.parametrize(
    ("reason", "waits_s"),
    [
        (Reason.crashed, [0, 10]),
        (Reason.lease_expired, [0, 40, 160, 640]),
        (Reason.host_defect, [10, 40, 160, 640]),
        (Reason.storage_unavailable, [10] * 6),
        (Reason.worker_stopped, [0] * 6),
    ],
)
def test_each_further_loss_waits_longer_until_the_last_ends_the_job(
    database: Database, reason: Reason, waits_s: list[float]
) -> None:
    with database.unit_of_work() as work:
        job = submit(work).id
        for wait_s in waits_s:
            run(work, job)
            row = work.jobs.end_attempt(job, reason=reason, message="lost", actor="host:one")
            assert row is not None
            assert (row.state, row.reason) == ("queued", reason)
            found_s = seconds_until(work, job, JobRow.not_before)
            assert (found_s is None) if wait_s == 0 else (found_s is not None and wait_s - 9 < found_s <= wait_s)
        run(work, job)
        row = work.jobs.end_attempt(job, reason=reason, message="lost", actor="host:one")
        assert row is not None
        ends = {Reason.crashed: "poisoned", Reason.lease_expired: "hosts_lost", Reason.host_defect: "hosts_lost"}
        assert (row.state, row.reason) == ("failed" if reason in ends else "queued", ends.get(reason, reason))
        assert row.message == "lost"


def test_a_job_keeps_away_from_the_host_that_could_not_run_it_for_half_an_hour(database: Database) -> None:
    with database.unit_of_work() as work:
        job = submit(work).id
        for host in ("two", "one"):
            work.jobs.assign(job, host, lease_s=LEASE_S)
            work.jobs.end_attempt(job, reason=Reason.disk_full, message="", actor=f"host:{host}")
        row = work.jobs.get(job)
        assert row is not None
        assert row.avoid_hosts == ["one", "two"]
        assert AVOIDED_S - 10 < (seconds_until(work, job, JobRow.avoid_until) or 0) <= AVOIDED_S


def test_only_lapsed_leases_are_reaped_and_counted(database: Database) -> None:
    with database.unit_of_work() as work:
        live, *dead = (run(work, submit(work).id).id for _ in range(4))
        assert work.jobs.renew_lease(live, 1, lease_s=LEASE_S) is JobState.running
        late = text("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 s' WHERE id != :live")
        work.session.execute(late, {"live": live})
    with database.unit_of_work() as work:
        first = work.jobs.reap(limit=2)
        assert len(first) == 2
        assert {(row.reason, row.message) for row in first} == {
            ("lease_expired", "The worker did not renew its lease.")
        }
        assert {row.id for row in [*first, *work.jobs.reap()]} == set(dead)
        assert work.jobs.transitions_after(dead[0])[-1].actor == "reaper"
        expired = [total for total in work.tallies.totals() if total.event == "lease_expired"]
        assert [(total.kind, total.count) for total in expired] == [("train-classifier", 3)]


def test_a_renewed_lease_is_as_long_as_asked(database: Database) -> None:
    with database.unit_of_work() as work:
        job = run(work, submit(work).id).id
        assert work.jobs.renew_lease(job, 1, lease_s=500) is JobState.running
        assert 490 < (seconds_until(work, job, JobRow.lease_until) or 0) <= 500


def test_a_boost_holds_until_the_job_ends_and_is_announced(database: Database) -> None:
    with database.unit_of_work() as work:
        job = submit(work).id
        messages(work)
        row = work.jobs.boost(job, 7)
        assert row is not None
        assert row.boost == 7
        assert messages(work) == [("schedule", {"job_id": str(job)})]
        work.jobs.request_cancel(job, actor="user:ada")
        assert work.jobs.boost(job, 9) is None
        assert work.jobs.boost(uuid4(), 9) is None
        assert row.boost == 7


def test_a_list_is_newest_first_and_goes_on_where_it_ended(database: Database) -> None:
    with database.unit_of_work() as work:
        rows = [submit(work) for _ in range(3)]
        submit(work, "bob")
        work.jobs.request_cancel(rows[1].id, actor="user:ada")
        reach = Reach.of(rows[0].owner_id)
        assert [row.id for row in work.jobs.list(reach)] == [row.id for row in reversed(rows)]
        assert [row.id for row in work.jobs.list(reach, limit=1)] == [rows[2].id]
        assert [row.id for row in work.jobs.list(reach, before=rows[2].submitted_order, limit=1)] == [rows[1].id]
        assert [row.id for row in work.jobs.list(reach, states=["cancelled"])] == [rows[1].id]
        retries = [submit(work, retry_of=rows[1].id).id for _ in range(2)]
        assert work.jobs.retries_of(rows[1].id) == retries
        assert work.jobs.retries_of(rows[0].id) == []


def test_an_only_attempt_that_brought_the_result_leaves_nothing_to_sweep(database: Database) -> None:
    with database.unit_of_work() as work:
        swept = []
        for earlier in (0, 1):
            job = submit(work).id
            for _ in range(earlier):
                run(work, job)
                work.jobs.end_attempt(job, reason=Reason.worker_stopped, message="", actor="host:one")
            run(work, job)
            work.jobs.transition(job, JobState.uploading, actor="host:one")
            row = work.jobs.transition(job, JobState.succeeded, actor="host:one")
            assert row is not None
            swept.append(row.swept_fence)
        assert swept == [1, 0]


def test_a_retry_adopts_every_checkpoint_below_any_attempt_of_its_own(database: Database) -> None:
    manifest = Manifest(artifact="model", files=())
    with database.unit_of_work() as work:
        ended, retry = submit(work).id, submit(work).id
        assert work.checkpoints.adopt(ended, retry) is None
        run(work, ended)
        for step in (5, 9):
            assert work.checkpoints.add(ended, 1, step, prefix=f"checkpoints/{ended}/1/{step}", manifest=manifest)
        assert work.checkpoints.adopt(ended, retry) == 9
        adopted = work.checkpoints.newest_first(retry)
        assert [(row.fence, row.step, row.prefix) for row in adopted] == [
            (0, step, f"checkpoints/{ended}/1/{step}") for step in (9, 5)
        ]
        assert [row.manifest for row in adopted] == [manifest.model_dump(mode="json")] * 2
        assert work.checkpoints.forget(ended, keep=0) == [], "the retry names them now"
        assert [row.step for row in work.checkpoints.forget(retry, keep=1)] == [5]
        assert work.checkpoints.is_named(retry, f"checkpoints/{ended}/1/9")
        assert not work.checkpoints.is_named(retry, f"checkpoints/{ended}/1/5")
