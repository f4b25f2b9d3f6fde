"""Sweeps in the scheduler: no trial is begun twice or lost, whatever dies when."""

from __future__ import annotations

import math
import os
import random
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from sqlalchemy import text

from jobspecs.frozen import FrozenInputs
from jobspecs.lifecycle import JobState
from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.rights import Reach
from jobspecs.sweeps.frozen import SweepPlan, Variant, references_of
from jobspecs.sweeps.lifecycle import CONFIRMATION
from jobspecs.sweeps.meaning import read_sweep
from jobspecs.sweeps.space import Dimension
from scheduling.sweeps import BEGUN_MAX
from storage.database import Database
from storage.repositories.jobs.sweeps import SweepRepository
from storage.repositories.outbox import OutboxRepository
from tests.workers.harness import Harness
from workers.scheduler.loop import tick
from workers.scheduler.sweeps.advancing import advance_all
from workers.scheduler.sweeps.sampling import Tried, suggested

SPEC = {"kind": "train-classifier", "model": "b@1", "dataset": "r@1", "text": "t", "label": "l", "name": "best"}
OVER = {"training.learning_rate": [1e-5, 2e-5, 3e-5, 4e-5, 5e-5]}


def submitted(database: Database, **changes: Any) -> UUID:
    document = {"kind": "sweep", "name": "s", "spec": SPEC, "over": OVER, **changes}
    sweep = read_sweep(document)
    first = {dimension.field: dimension.ends[0] for dimension in sweep.dimensions}
    references = references_of(sweep.spec_of(first, CONFIRMATION))
    plan = SweepPlan(variants=(Variant(references=references, inputs=FrozenInputs(), memory_bytes=1),))
    with database.unit_of_work() as work:
        owner = work.users.ensure("tester")
        return work.sweeps.submit(owner.id, "s", document, plan, request_sha256="0")[0].id


def go_on(database: Database) -> None:
    with database.unit_of_work() as work:
        due = work.sweeps.due(1000)
    advance_all(database, due)


def jobs(database: Database, state: str = "queued") -> dict[UUID, int]:
    """Job -> the trial that it is."""
    query = text("SELECT id, inputs -> 'sweep' ->> 'trial' FROM jobs WHERE state = :state ORDER BY submitted_order")
    with database.unit_of_work() as work:
        return {job_id: int(trial) for job_id, trial in work.session.execute(query, {"state": state})}


def finish(database: Database, job_id: UUID, value: float, part: str = "validation") -> None:
    """What a worker does."""
    with database.unit_of_work() as work:
        row = work.jobs.assign(job_id, "one", lease_s=60)
        assert row is not None
        for state in (JobState.preparing, JobState.running, JobState.uploading, JobState.succeeded):
            work.jobs.transition(job_id, state, actor="host:one")
        file = ManifestFile(path="model.safetensors", bytes=1, sha256=uuid4().hex * 2)
        manifest = Manifest(artifact="model", files=(file,), metrics={f"{part}/macro_f1": value})
        work.models.add_version(row.owner_id, row.name, manifest=manifest, prefix=f"m/{job_id}", job_id=job_id, fence=1)


class Killed(BaseException):
    """The scheduler dies here: nothing of the transaction is committed."""


def make_mortal(monkeypatch: pytest.MonkeyPatch, chance: random.Random) -> None:
    """Schedulers die by chance before or after their writes."""

    def mortal(original: Callable[..., Any]) -> Callable[..., Any]:
        def dying(*args: Any, **more: Any) -> Any:
            if chance.random() < 0.1:
                raise Killed
            done = original(*args, **more)
            if chance.random() < 0.1:
                raise Killed
            return done

        return dying

    names = ("lock", "begin", "move", "note", "end", "name_winner")
    for name in names:
        monkeypatch.setattr(SweepRepository, name, mortal(getattr(SweepRepository, name)))
    monkeypatch.setattr(OutboxRepository, "add", mortal(OutboxRepository.add))


def test_a_scheduler_that_dies_at_any_moment_loses_and_doubles_no_trial(harness: Harness, redis_url: str) -> None:
    chance, database = random.Random(int(os.environ.get("SEED", "7"))), harness.database
    over = {"training.learning_rate": [1e-5, 2e-5, 3e-5]}
    sweeps = [submitted(database, at_once=at_once, over=over) for at_once in (1, 3)]
    kills = 0
    for _ in range(400):
        with pytest.MonkeyPatch.context() as patch:
            make_mortal(patch, chance)
            try:
                go_on(database)
            except Killed:
                kills += 1
                continue
        left = jobs(database)
        if not left:
            break
        job_id = chance.choice(list(left))
        finish(database, job_id, 0.1 * left[job_id] or 0.33, "validation" if left[job_id] else "test")
        redis.Redis.from_url(redis_url).flushall()
    assert kills > 5
    with database.unit_of_work() as work:
        for sweep_id in sweeps:
            row = work.sweeps.find(Reach.of(work.users.ensure("tester").id), sweep_id)
            assert row is not None and (row.state, row.winner) == ("succeeded", 3)
            assert [trial.number for trial in work.sweeps.trials(sweep_id)] == [0, 1, 2, 3]
        assert work.session.execute(text("SELECT count(*), count(DISTINCT id) FROM jobs")).one() == (8, 8)


def test_a_tick_begins_trials_and_a_defect_in_one_sweep_keeps_no_other_from_going_on(harness: Harness) -> None:
    database = harness.database
    broken, good = submitted(database), submitted(database, at_once=2)
    with database.unit_of_work() as work:
        work.session.execute(text("UPDATE sweeps SET document = '{}' WHERE id = :id"), {"id": broken})
    tick(database, lease_s=60)
    assert sorted(jobs(database).values()) == [1, 2]
    with database.unit_of_work() as work:
        assert work.sweeps.trials(broken) == []
        assert len(work.sweeps.trials(good)) == 2


def test_two_schedulers_at_once_begin_each_trial_once(harness: Harness) -> None:
    database = harness.database
    sweep_id = submitted(database, at_once=5)
    with database.unit_of_work() as work:
        assert work.sweeps.lock(sweep_id) is not None
        # The other one has it: nothing is done, and nothing is waited for.
        advance_all(database, [sweep_id])
    assert jobs(database) == {}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: go_on(database), range(4)))
    go_on(database)
    assert sorted(jobs(database).values()) == [1, 2, 3, 4, 5]


def test_what_is_left_after_the_time_of_one_look_stays_due(harness: Harness) -> None:
    database = harness.database
    sweeps = [submitted(database, at_once=5) for _ in range(2)]
    advance_all(database, sweeps, seconds_max=0.0)
    assert sorted(jobs(database).values()) == [*range(1, BEGUN_MAX + 1)]
    with database.unit_of_work() as work:
        assert {*work.sweeps.due(10)} == {*sweeps}
    go_on(database)
    assert sorted(jobs(database).values()) == sorted([*range(1, 6)] * 2)


def test_time_that_runs_out_stops_trials_and_the_best_so_far_is_confirmed(harness: Harness) -> None:
    database = harness.database
    sweep_id = submitted(database, at_once=2, max_time="1h")
    go_on(database)
    first, second = jobs(database)
    finish(database, first, 0.5)
    with database.unit_of_work() as work:
        work.session.execute(text("UPDATE sweeps SET created_at = created_at - interval '2 hours'"))
        work.session.execute(text("UPDATE sweeps SET look_at = clock_timestamp()"))
    go_on(database)
    with database.unit_of_work() as work:
        trials = {trial.number: (trial.state, trial.reason) for trial in work.sweeps.trials(sweep_id)}
        stopped = work.jobs.get(second)
        assert stopped is not None and stopped.state == "cancelled"
    assert trials == {0: ("running", None), 1: ("succeeded", None), 2: ("stopped", "out_of_time")}
    assert list(jobs(database).values()) == [CONFIRMATION]


def test_values_that_nobody_froze_and_inputs_that_are_gone_fail_a_trial_and_not_the_sweep(harness: Harness) -> None:
    database = harness.database
    sweep_id = submitted(database, over={"model": ["b@1", "other@1"]}, confirm=False)
    go_on(database)
    ((job_id, number),) = jobs(database).items()
    assert number == 1
    finish(database, job_id, 0.5)
    go_on(database)
    with database.unit_of_work() as work:
        states = {trial.number: (trial.state, trial.reason) for trial in work.sweeps.trials(sweep_id)}
        assert states == {1: ("succeeded", None), 2: ("failed", "refused")}
        assert work.session.execute(text("SELECT state, winner FROM sweeps")).one() == ("succeeded", 1)


def test_the_sampler_gives_the_same_values_for_the_same_trials_and_finds_what_is_good() -> None:
    dimensions = read_sweep(
        {
            "kind": "sweep",
            "name": "s",
            "spec": SPEC,
            "method": "tpe",
            "trials": 30,
            "over": {
                "training.learning_rate": {"low": 1e-6, "high": 1e-2, "scale": "log"},
                "training.batch_size": {"low": 8, "high": 64, "step": 8},
                "training.weight_decay": {"low": 0.0, "high": 0.3, "step": 0.1},
                "training.schedule": ["linear", "cosine", "constant"],
            },
        }
    ).dimensions
    medians = []
    for seed in (1, 2):
        tried: list[Tried] = []
        for number in range(24):
            values = suggested(dimensions, tried, seed=seed, goal="max")
            if number % 8 == 7:
                assert values == suggested(dimensions, tried, seed=seed, goal="max")
            assert values["training.weight_decay"] in (0.0, 0.1, 0.2, 0.3)
            assert values["training.batch_size"] % 8 == 0
            # Powers of ten from the best rate: of rates drawn by chance half are farther than one.
            off = abs(math.log10(values["training.learning_rate"] / 1e-4))
            stopped, failed = number % 7 == 6, number == 3
            losses, value = ((off,) if stopped else ()), (None if stopped or failed else -off)
            tried.append(Tried(values, value, losses, ended=failed))
        medians.append(
            statistics.median(abs(math.log10(one.values["training.learning_rate"] / 1e-4)) for one in tried[12:])
        )
    assert statistics.mean(medians) < 0.7


def test_a_counted_space_is_searched_without_repetition() -> None:
    dimensions = [Dimension("a", [1, 2, 3]), Dimension("b", ["x", "y"])]
    tried: list[Tried] = []
    for number in range(6):
        tried.append(Tried(suggested(dimensions, tried, seed=3, goal="min"), value=float(number)))
    assert len({str(one.values) for one in tried}) == 6
