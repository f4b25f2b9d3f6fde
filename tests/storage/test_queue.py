from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, text

from jobspecs.lifecycle import JobState, Reason
from jobspecs.rights import Reach
from scheduling.decisions import Resources
from storage.database import Database, UnitOfWork
from storage.repositories.jobs import queue
from tests.backlog import add_jobs

SPEC = {"kind": "train-classifier", "name": "model", "priority": 0}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


def submit(database: Database, owner: str = "ada", *, priority: int = 0, memory_bytes: int = 1) -> UUID:
    with database.unit_of_work() as work:
        row, _ = work.jobs.submit(
            work.users.ensure(owner).id,
            actor=f"user:{owner}",
            spec={**SPEC, "priority": priority},
            inputs={"model": {"digest": "d"}},
            slots=1,
            memory_bytes=memory_bytes,
            gpus=0,
            max_runtime_s=3600,
            request_sha256="0",
        )
    return row.id


def room(slots: int, memory_bytes: int = 100) -> list[Resources]:
    return [Resources(slots, memory_bytes)]


def heads(database: Database, rooms: list[Resources]) -> list[tuple[UUID, bool]]:
    with database.unit_of_work() as work:
        return [(job.id, job.followed) for job in work.queue.heads(rooms)]


def test_the_first_jobs_of_each_owner_priority_and_size_are_read_and_the_rest_are_announced(
    database: Database,
) -> None:
    ada = [submit(database) for _ in range(3)]
    bob = submit(database, "bob")
    urgent, large = submit(database, priority=1), submit(database, memory_bytes=2)
    read = dict(heads(database, room(2)))
    assert {job for job, followed in read.items() if followed} == {ada[1]}
    assert set(read) == {*ada[:2], bob, urgent, large}


def test_of_jobs_that_fit_nowhere_now_one_is_read(database: Database) -> None:
    first, _ = submit(database, memory_bytes=9), submit(database, memory_bytes=9)
    assert [job for job, _ in heads(database, [Resources(4, 8), Resources(0, 100)])] == [first]


def test_with_too_many_groups_the_front_of_the_queue_is_read_all_the_same(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [submit(database, memory_bytes=size) for size in (1, 2, 3, 4)]
    monkeypatch.setattr(queue, "HEADS", queue.HEADS.bindparams(groups_max=2, front=2))
    # Groups are walked from the largest; the first two jobs belong to the others.
    assert {job for job, _ in heads(database, room(1))} == set(jobs)
    late = submit(database, memory_bytes=1)
    assert late not in dict(heads(database, room(1)))


def test_a_job_in_back_off_is_not_read_and_those_behind_it_are(database: Database) -> None:
    first, second = submit(database), submit(database)
    with database.unit_of_work() as work:
        work.jobs.assign(first, "host", lease_s=60)
        work.jobs.end_attempt(first, reason=Reason.storage_unavailable, message="", actor="host:host")
    assert [job for job, _ in heads(database, room(5))] == [second]


def test_a_job_that_avoids_a_host_says_so_and_hides_nobody_behind_it(database: Database) -> None:
    first, second = submit(database), submit(database)
    with database.unit_of_work() as work:
        work.jobs.assign(first, "host", lease_s=60)
        work.jobs.end_attempt(first, reason=Reason.disk_full, message="", actor="host:host")
        work.session.execute(text("UPDATE jobs SET not_before = NULL"))
    with database.unit_of_work() as work:
        read = {job.id: (job.avoided_hosts, job.followed) for job in work.queue.heads(room(1))}
    assert read == {first: (["host"], False), second: ([], True)}


def test_the_age_of_the_queue_counts_from_the_last_time_that_a_job_came_into_it(database: Database) -> None:
    job = submit(database)
    with database.unit_of_work() as work:
        work.session.execute(text("UPDATE jobs SET queued_at = queued_at - interval '1 hour'"))
        assert work.queue.oldest_queued_age_s() > 3600
    with database.unit_of_work() as work:
        work.jobs.assign(job, "host", lease_s=60)
        assert work.queue.oldest_queued_age_s() == 0.0
        work.jobs.end_attempt(job, reason=Reason.worker_stopped, message="", actor="host:host")
    with database.unit_of_work() as work:
        assert work.queue.oldest_queued_age_s() < 60


def test_a_place_is_held_since_the_attempt_was_assigned(database: Database) -> None:
    job = submit(database, memory_bytes=7)
    with database.unit_of_work() as work:
        work.jobs.assign(job, "host", lease_s=60)
        work.session.execute(text("UPDATE jobs SET assigned_at = assigned_at - interval '100 s'"))
    with database.unit_of_work() as work:
        (place,) = work.queue.places()
        assert work.queue.places("another") == []
    assert (place.host, place.slots, place.memory_bytes, place.max_runtime_s) == ("host", 1, 7, 3600)
    assert 100 <= place.held_s < 160


def test_no_look_at_many_jobs_reads_them_all(database: Database) -> None:
    """With 6,000 waiting, 6,000 finished and one active, as PostgreSQL plans with its statistics."""
    like = submit(database)
    add_jobs(database, like, 6000)
    add_jobs(database, like, 6000, state="succeeded")
    with database.unit_of_work() as work:
        work.jobs.assign(like, "host", lease_s=60)
    owner = _owner(database)
    looks: dict[str, Callable[[UnitOfWork], object]] = {
        "heads": lambda work: work.queue.heads(room(16)),
        "places": lambda work: work.queue.places(),
        "places of a host": lambda work: work.queue.places("host"),
        "active": lambda work: work.queue.active("host"),
        "age": lambda work: work.queue.oldest_queued_age_s(),
        "speeds": lambda work: work.queue.speeds("train-classifier", "d", gpus=0),
        "speeds of any model": lambda work: work.queue.speeds("train-classifier", None, gpus=0),
        "list": lambda work: work.jobs.list(Reach.of(owner)),
        "list of everybody": lambda work: work.jobs.list(Reach(owner, frozenset(), everybody=True)),
        "list of everybody's failed": lambda work: work.jobs.list(
            Reach(owner, frozenset(), everybody=True), states=["failed"]
        ),
        "list of failed": lambda work: work.jobs.list(Reach.of(owner), states=["failed"]),
        "reap": lambda work: work.jobs.reap(),
        "renew": lambda work: work.jobs.renew_lease(like, 1, lease_s=60),
        "transition": lambda work: work.jobs.transition(like, JobState.preparing, actor="host:host"),
    }
    for name, look in looks.items():
        with database.unit_of_work() as work, plans_of(work) as plans:
            look(work)
        assert plans, name
        for plan in plans:
            assert not list(_full_reads(plan)), (name, plan)


def test_what_waits_is_not_read_for_how_fast_earlier_jobs_were(database: Database) -> None:
    like = submit(database)
    add_jobs(database, like, 3000)
    with database.unit_of_work() as work, plans_of(work) as plans:
        assert work.queue.speeds("train-classifier", "d", gpus=0) == []
    used = [node["Index Name"] for plan in plans for node in _nodes(plan) if node.get("Relation Name") == "jobs"]
    assert used == ["ix_jobs_speed_of_model"]


def _owner(database: Database) -> UUID:
    with database.unit_of_work() as work:
        return work.users.ensure("owner-1").id


@contextmanager
def plans_of(work: UnitOfWork) -> Iterator[list[dict[str, Any]]]:
    """The plans of the statements that read or write jobs in the block, made with the parameters they had."""
    engine = work.session.get_bind()
    said: list[tuple[str, Any]] = []

    def hear(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if " jobs" in statement and not statement.startswith("INSERT"):
            said.append((statement, parameters))

    plans: list[dict[str, Any]] = []
    event.listen(engine, "before_cursor_execute", hear)
    try:
        yield plans
    finally:
        event.remove(engine, "before_cursor_execute", hear)
    connection = work.session.connection()
    for statement, parameters in said:
        answer = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
        plans.append((json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"])


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def _full_reads(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (node for node in _nodes(plan) if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "jobs")
