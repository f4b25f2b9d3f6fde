"""What is deleted from the store, when, and what is never."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import ORMExecuteState

from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest
from storage.database import Database, UnitOfWork
from storage.repositories.registry.garbage import SETTLED_S

MANIFEST = Manifest(artifact="model", files=())


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


def due_in_s(work: UnitOfWork) -> float:
    return float(work.session.scalars(text("SELECT extract(epoch FROM due_at - clock_timestamp()) FROM garbage")).one())


def pass_time(work: UnitOfWork, seconds: float) -> None:
    work.session.execute(
        text(
            "UPDATE garbage SET due_at = due_at - make_interval(secs => :s), created_at = created_at - "
            "make_interval(secs => :s)"
        ),
        {"s": seconds},
    )


def test_each_failed_try_doubles_the_wait_up_to_an_hour(database: Database) -> None:
    with database.unit_of_work() as work:
        work.garbage.add("models/a", bytes_total=5)
        waits_s = []
        for _ in range(8):
            assert work.garbage.claim() == ["models/a"]
            waits_s.append(due_in_s(work))
            pass_time(work, waits_s[-1])
        assert waits_s == pytest.approx([60, 120, 240, 480, 960, 1920, 3600, 3600], abs=9)


def test_the_earlier_of_two_times_holds(database: Database) -> None:
    with database.unit_of_work() as work:
        work.garbage.add("models/a", bytes_total=5, after_s=100)
        work.garbage.add("models/a", bytes_total=5, after_s=500)
        assert 90 < due_in_s(work) <= 100
        work.garbage.add("models/a", bytes_total=5, after_s=20)
        assert 10 < due_in_s(work) <= 20
        assert work.garbage.claim() == []


def test_what_is_gone_is_deleted_once_more_when_nothing_can_arrive_any_more(database: Database) -> None:
    with database.unit_of_work() as work:
        work.garbage.add("models/a", bytes_total=5)
        assert work.garbage.claim() == ["models/a"]
        assert work.garbage.bytes_waiting() == 5
        work.garbage.forget("models/a")
        assert work.garbage.bytes_waiting() == 0
        assert SETTLED_S - 10 < due_in_s(work) <= SETTLED_S
        pass_time(work, SETTLED_S)
        assert work.garbage.claim() == ["models/a"]
        work.garbage.forget("models/a")
        assert work.session.scalar(text("SELECT count(*) FROM garbage")) == 0


def test_what_a_push_may_be_sending_is_not_among_the_bytes_that_wait(database: Database) -> None:
    with database.unit_of_work() as work:
        work.garbage.add("models/a", bytes_total=5, after_s=2 * SETTLED_S)
        assert work.garbage.bytes_waiting() == 0
        work.garbage.add("models/b", bytes_total=7, after_s=SETTLED_S / 2)
        assert work.garbage.bytes_waiting() == 7


def test_the_longest_due_is_claimed_first(database: Database) -> None:
    with database.unit_of_work() as work:
        for name in ("b", "a", "c"):
            work.garbage.add(f"models/{name}", bytes_total=1)
        pass_time(work, 60)
        work.garbage.add("models/a", bytes_total=1)
        work.session.execute(text("UPDATE garbage SET due_at = due_at - interval '1 h' WHERE prefix = 'models/c'"))
        assert work.garbage.claim(1) == ["models/c"]
        assert set(work.garbage.claim(2)) == {"models/a", "models/b"}


def test_what_a_row_names_or_a_running_job_may_yet_name_is_no_garbage(database: Database) -> None:
    with database.unit_of_work() as work:
        owner = work.users.ensure("ada")
        jobs = [
            work.jobs.submit(
                owner.id,
                actor="user:ada",
                spec={"kind": "train-classifier", "name": "model", "priority": 0},
                inputs={},
                slots=1,
                memory_bytes=1,
                gpus=0,
                max_runtime_s=1,
                request_sha256="0",
            )[0].id
            for _ in range(2)
        ]
        live, ended = jobs
        work.jobs.assign(ended, "one", lease_s=60)
        kept = f"checkpoints/{ended}/1/5"
        assert work.checkpoints.add(ended, 1, 5, prefix=kept, manifest=MANIFEST)
        work.jobs.end_attempt(ended, reason=Reason.timeout, message="", actor="host:one")
        work.models.add_version(owner.id, "m", manifest=MANIFEST, prefix="models/named")
        named = ["models/named", kept, f"artifacts/{live}/1", f"checkpoints/{live}", f"checkpoints/{live}/2/7"]
        unnamed = [f"artifacts/{ended}/1", f"checkpoints/{ended}/1/4", f"models/{uuid4()}", "artifacts/x", "other/y"]
        assert work.garbage.named([*named, *unnamed, f"models/{live}"]) == set(named)
        assert work.garbage.named_by_versions([*named, *unnamed]) == {"models/named"}


def test_what_a_job_names_while_somebody_looks_is_no_garbage(database: Database) -> None:
    with database.unit_of_work() as work:
        owner = work.users.ensure("ada")
        spec = {"kind": "train-classifier", "name": "model", "priority": 0}
        size: dict[str, Any] = {"slots": 1, "memory_bytes": 1, "gpus": 0, "max_runtime_s": 1}
        job, _ = work.jobs.submit(owner.id, actor="user:ada", spec=spec, inputs={}, request_sha256="0", **size)
        work.jobs.assign(job.id, "one", lease_s=60)
    prefix = f"artifacts/{job.id}/1"
    looked: list[object] = []

    def end_after_the_first_look(state: ORMExecuteState) -> None:
        looked.append(state.statement)
        if len(looked) == 2:
            with database.unit_of_work() as other:
                other.models.add_version(owner.id, "model", manifest=MANIFEST, prefix=prefix)
                other.jobs.end_attempt(job.id, reason=Reason.timeout, message="", actor="host:one")

    with database.unit_of_work() as work:
        event.listen(work.session, "do_orm_execute", end_after_the_first_look)
        assert work.garbage.named([prefix]) == {prefix}
    assert len(looked) > 1
