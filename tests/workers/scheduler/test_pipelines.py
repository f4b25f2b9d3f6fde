"""Pipelines in the scheduler: nothing is begun twice or lost, whatever dies when."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from sqlalchemy import text

from jobspecs.lifecycle import JobState
from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.pipelines.frozen import StepInputs
from storage.database import Database
from storage.repositories.jobs.pipelines import NewStep, PipelineRepository
from storage.repositories.outbox import OutboxRepository
from tests.workers.harness import Harness
from workers.scheduler.loop import tick
from workers.scheduler.pipelines.advancing import advance, advance_all

#: `make test-kills` takes 200, and SEED.
PIPELINES = int(os.environ.get("TEST_PIPELINES", "3"))
SPEC = {"kind": "train-classifier", "model": "base@1", "dataset": "rows@1", "text": "text", "label": "label"}


def step(name: str, *needs: str, reads: str | None = None, condition: str | None = None) -> NewStep:
    """A job; `reads`: the step whose model it begins with."""
    models = {"model": reads} if reads is not None else {}
    spec = {**SPEC, "name": name, **({"model": f"${reads}.model"} if reads is not None else {})}
    every = (*needs, *models.values())
    return NewStep(name, "train-classifier", spec, condition, every, StepInputs(models=models), memory_bytes=1)


def submitted(database: Database, steps: Sequence[NewStep], name: str = "p", **document: Any) -> UUID:
    with database.unit_of_work() as work:
        owner = work.users.ensure("tester")
        row, _ = work.pipelines.submit(owner.id, name, document, steps, request_sha256="0")
        return row.id


def states(database: Database, pipeline_id: UUID) -> dict[str, str]:
    with database.unit_of_work() as work:
        return {row.name: row.state for row in work.pipelines.steps(pipeline_id)}


def jobs(database: Database) -> dict[str, UUID]:
    """Name -> id of every job; a step that was begun twice would have two of one name."""
    with database.unit_of_work() as work:
        found = work.session.execute(text("SELECT name, id FROM jobs ORDER BY submitted_order")).all()
    assert len({name for name, _ in found}) == len(found), found
    return {name: job_id for name, job_id in found}


def finish(database: Database, job_id: UUID, **metrics: float) -> None:
    """What a worker does; whatever it was killed in the midst of."""
    with database.unit_of_work() as work:
        row = work.jobs.assign(job_id, "one", lease_s=60)
        assert row is not None
        for state in (JobState.preparing, JobState.running, JobState.uploading, JobState.succeeded):
            work.jobs.transition(job_id, state, actor="host:one")
        file = ManifestFile(path="model.safetensors", bytes=1, sha256=uuid4().hex * 2)
        manifest = Manifest(artifact="model", files=(file,), metrics=metrics)
        work.models.add_version(row.owner_id, row.name, manifest=manifest, prefix=f"m/{job_id}", job_id=job_id, fence=1)


def go_on(database: Database) -> None:
    with database.unit_of_work() as work:
        due = work.pipelines.due(1000)
    advance_all(database, due)


class Killed(BaseException):
    """The scheduler dies here: nothing of the transaction is committed."""


class Death:
    """Kills the scheduler by chance before or after its writes, while it is `armed`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, chance: random.Random) -> None:
        self.armed, self.kills, self._chance = False, 0, chance
        for owner, names in ((PipelineRepository, ("move", "end", "note", "lock")), (OutboxRepository, ("add",))):
            for name in names:
                monkeypatch.setattr(owner, name, self._mortal(getattr(owner, name)))

    def _mortal(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def dying(*args: Any, **more: Any) -> Any:
            self._strike()
            done = original(*args, **more)
            self._strike()
            return done

        return dying

    def _strike(self) -> None:
        if self.armed and self._chance.random() < 0.15:
            self.kills += 1
            raise Killed

    def spares(self, act: Callable[[], None]) -> bool:
        """Whether the scheduler survived it."""
        self.armed = True
        try:
            act()
        except Killed:
            return False
        finally:
            self.armed = False
        return True


def diamond(n: int) -> list[NewStep]:
    """Five steps; the last one's condition is true where n is even."""
    last = step(f"e{n}", f"d{n}", condition=f"$a{n}.accuracy > {n % 2}")
    below = [step(f"b{n}", reads=f"a{n}"), step(f"c{n}", reads=f"a{n}"), step(f"d{n}", f"b{n}", f"c{n}")]
    return [step(f"a{n}"), *below, last]


def test_a_scheduler_that_dies_at_any_moment_loses_and_doubles_no_step(
    harness: Harness, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(int(os.environ.get("SEED", "7")))
    death, database = Death(monkeypatch, chance), harness.database
    pipelines = [submitted(database, diamond(n), f"p{n}") for n in range(PIPELINES)]
    done: set[UUID] = set()
    for _ in range(100 * PIPELINES):
        if not death.spares(lambda: go_on(database)):
            continue
        left = [job_id for job_id in jobs(database).values() if job_id not in done]
        if not left:
            break
        for one in chance.sample(left, min(len(left), 1 + PIPELINES // 20)):
            done.add(one)
            finish(database, one, **{"validation/accuracy": 0.5})
        redis.Redis.from_url(redis_url).flushall()
    assert death.kills > 10
    for n, pipeline_id in enumerate(pipelines):
        ended = {f"{name}{n}": "succeeded" for name in "abcd"}
        assert states(database, pipeline_id) == {**ended, f"e{n}": "skipped" if n % 2 else "succeeded"}
    with database.unit_of_work() as work:
        assert work.session.execute(text("SELECT DISTINCT state FROM pipelines")).scalars().all() == ["succeeded"]
    assert len(jobs(database)) == 4 * PIPELINES + (PIPELINES + 1) // 2


def test_of_many_schedulers_that_decide_at_once_one_begins_each_step(harness: Harness) -> None:
    pipelines = [submitted(harness.database, [step(f"a{n}"), step(f"b{n}", f"a{n}")]) for n in range(5)]

    def decide_all() -> None:
        for pipeline_id in pipelines:
            advance(harness.database, pipeline_id)

    for expected in (5, 10):
        threads = [threading.Thread(target=decide_all) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        go_on(harness.database)
        found = jobs(harness.database)
        assert len(found) == expected
        for name, job_id in found.items():
            if name.startswith("a") and expected == 5:
                finish(harness.database, job_id)


def test_a_defect_in_one_pipeline_keeps_no_other_from_going_on(harness: Harness) -> None:
    broken = submitted(harness.database, [replace(step("broken"), spec={"kind": "no such kind", "name": "x"})])
    odd = submitted(harness.database, [replace(step("odd"), condition="this is none")])
    good = submitted(harness.database, [step("good")])
    tick(harness.database, lease_s=60)
    assert states(harness.database, good) == {"good": "running"}
    assert states(harness.database, broken) == {"broken": "failed"}
    assert states(harness.database, odd) == {"odd": "waiting"}


def test_what_a_step_should_read_may_be_deleted_meanwhile(harness: Harness) -> None:
    database = harness.database
    pipeline_id = submitted(database, [step("a"), step("b"), step("c", "b", reads="a")])
    go_on(database)
    found = jobs(database)
    finish(database, found["a"])
    go_on(database)
    with database.unit_of_work() as work:
        version = work.models.of_job(found["a"])
        assert version is not None
        work.removal.delete_models([version])
        assert work.removal.delete_job(found["a"]) is not None
    finish(database, found["b"])
    go_on(database)
    with database.unit_of_work() as work:
        steps = {row.name: row for row in work.pipelines.steps(pipeline_id)}
    assert (steps["c"].state, steps["c"].reason) == ("failed", "input_deleted")
    assert steps["c"].message == "tester/a@1 was deleted."


def test_a_job_that_is_deleted_or_cancelled_by_itself_ends_its_step(harness: Harness) -> None:
    database = harness.database
    pipeline_id = submitted(database, [step("a"), step("b")])
    go_on(database)
    for name, job_id in jobs(database).items():
        with database.unit_of_work() as work:
            assert work.jobs.request_cancel(job_id, actor="user:tester")
            if name == "a":
                assert work.removal.delete_job(job_id) is not None
    go_on(database)
    with database.unit_of_work() as work:
        steps = {row.name: (row.state, row.reason) for row in work.pipelines.steps(pipeline_id)}
    assert steps == {"a": ("failed", "job_deleted"), "b": ("cancelled", "job_cancelled")}


def test_what_passes_to_another_owner_goes_on_there_and_what_is_deleted_begins_nothing(harness: Harness) -> None:
    database = harness.database
    given, gone = (submitted(database, [step(name), step(f"{name}2", name)], name) for name in ("given", "gone"))
    go_on(database)
    found = jobs(database)
    with database.unit_of_work() as work:
        taker = work.users.ensure("taker")
        owner = work.users.ensure("tester")
        work.session.execute(text("UPDATE pipelines SET owner_id = :id WHERE name = 'gone'"), {"id": taker.id})
        work.handover.give(owner.id, taker.id)
        work.pipelines.request_cancel(gone)
        work.session.execute(text("UPDATE jobs SET owner_id = :id"), {"id": taker.id})
    finish(database, found["given"])
    go_on(database)
    assert states(database, given)["given2"] == "running"
    with database.unit_of_work() as work:
        owners = work.session.execute(text("SELECT DISTINCT owner_id FROM jobs")).scalars().all()
        assert owners == [taker.id]
    for job_id in jobs(database).values():
        with database.unit_of_work() as work:
            work.jobs.request_cancel(job_id, actor="user:taker")
    with database.unit_of_work() as work:
        work.handover.delete(taker.id)
        assert work.session.execute(text("SELECT count(*) FROM pipelines")).scalar() == 0
