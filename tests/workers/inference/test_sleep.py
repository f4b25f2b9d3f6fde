"""Deployments that sleep on a host, and what others get of it meanwhile: the real database, no processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import text

from storage.database import Database
from storage.repositories.serving.sleep import STAMP_S
from storage.tables import DeploymentRow
from tests.workers.inference.test_claims import row_of, start_job
from tests.workers.inference.test_engine_holds import Laptop
from workers.engines.interface import EngineState, Load
from workers.inference.deployed_model import LINGER_S
from workers.inference.replicas import RestartPolicy

IDLE_S = 60


@pytest.fixture
def laptop(database_url: str) -> Iterator[Laptop]:
    """It serves one model that needs 6 GiB and two GPUs and may sleep."""
    with closing(Database(database_url)) as database:
        laptop = Laptop(database)
        laptop.serve(memory_gib=6, gpus=2)
        set_columns(laptop, idle_after_s=IDLE_S)
        yield laptop
        laptop.worker.stop(laptop.now_s)
        laptop.worker.tick_services(laptop.now_s)
        laptop.wakeup.close()


def set_columns(laptop: Laptop, **columns: Any) -> None:
    with laptop.database.unit_of_work() as work:
        row = work.session.query(DeploymentRow).filter_by(name="model").one()
        for name, value in columns.items():
            setattr(row, name, value)


def quiet_for(laptop: Laptop, seconds: float) -> None:
    """Nobody has asked it for so long."""
    with laptop.database.unit_of_work() as work:
        ago = text("UPDATE deployments SET last_used_at = clock_timestamp() - make_interval(secs => :s)")
        work.session.execute(ago, {"s": seconds})


def wake(laptop: Laptop) -> bool:
    with laptop.database.unit_of_work() as work:
        row = work.session.query(DeploymentRow).filter_by(name="model").one()
        return work.sleep.wake(row.owner_id, row.name)


def end_jobs(laptop: Laptop) -> None:
    with laptop.database.unit_of_work() as work:
        work.session.execute(text("UPDATE jobs SET host = NULL"))


def state_of(laptop: Laptop) -> tuple[str, str | None, bool]:
    row = row_of(laptop.database, "model")
    return row.state, row.host, row.answers


def test_one_that_nobody_asks_sleeps_and_others_get_what_it_took(laptop: Laptop) -> None:
    quiet_for(laptop, IDLE_S + STAMP_S)
    laptop.look()
    assert state_of(laptop) == ("ready", "laptop", True), "its last use may not have been written down yet"
    quiet_for(laptop, IDLE_S + 3 * STAMP_S)
    laptop.look()
    assert state_of(laptop) == ("asleep", None, False)
    assert laptop.room() == (2, 1, {"GPU-5", "1"}), "its engine gives the last answers"
    laptop.look(LINGER_S + 3)
    laptop.look()
    assert laptop.room() == (8, 3, set())
    assert laptop.engine.started[0].closed
    laptop.look(600)
    assert len(laptop.engine.started) == 1, "nobody starts what sleeps"


def test_one_that_may_not_sleep_never_does_and_a_used_one_does_not(laptop: Laptop) -> None:
    quiet_for(laptop, IDLE_S + 3 * STAMP_S)
    with laptop.database.unit_of_work() as work:
        work.sleep.note_use([row_of(laptop.database, "model").id])
    laptop.look()
    assert state_of(laptop)[0] == "ready"
    set_columns(laptop, idle_after_s=None)
    quiet_for(laptop, 1e6)
    laptop.look()
    assert state_of(laptop)[0] == "ready"


def test_one_that_is_woken_waits_for_memory_that_a_job_has_taken_and_its_start_is_measured(laptop: Laptop) -> None:
    assert [s >= 0 for s in row_of(laptop.database, "model").start_seconds] == [True], "the first start"
    quiet_for(laptop, IDLE_S + 3 * STAMP_S)
    laptop.look(LINGER_S + 3)
    laptop.look(LINGER_S + 3)
    start_job(laptop.database, memory_gib=4)
    assert wake(laptop)
    assert not wake(laptop), "once is enough"
    laptop.look()
    assert state_of(laptop) == ("pending", None, False)
    end_jobs(laptop)
    laptop.look()
    assert state_of(laptop) == ("starting", "laptop", False)
    laptop.engine.started[-1].now = EngineState.ready
    laptop.look()
    row = row_of(laptop.database, "model")
    assert (row.state, row.answers, row.woken_at, row.claimed_at) == ("ready", True, None, None)
    assert len(row.start_seconds) == 2
    assert max(row.start_seconds) < 60, "the time in which there was no room is no part of it"


def test_an_engine_that_can_keeps_its_place_and_leaves_its_gpus_to_others(laptop: Laptop) -> None:
    process = laptop.engine.started[0]
    process.can_sleep = True
    process.in_hand = Load(running=1)
    quiet_for(laptop, IDLE_S + 3 * STAMP_S)
    laptop.look(LINGER_S + 3)
    laptop.look()
    assert not process.asked_to_sleep, "an answer is in hand"
    process.in_hand = Load()
    laptop.look()
    laptop.look()
    assert process.asked_to_sleep
    assert state_of(laptop) == ("asleep", "laptop", False)
    assert laptop.room() == (2, 3, set()), "its weights are in main memory"
    assert wake(laptop)
    assert laptop.room() == (2, 1, {"GPU-5", "1"})
    laptop.look()
    assert not process.asked_to_sleep
    laptop.look()
    assert state_of(laptop) == ("ready", "laptop", True)
    assert len(laptop.engine.started) == 1
    assert len(row_of(laptop.database, "model").start_seconds) == 2


def test_one_that_sleeps_goes_elsewhere_when_a_job_has_its_gpus(laptop: Laptop) -> None:
    process = laptop.engine.started[0]
    process.can_sleep = True
    quiet_for(laptop, IDLE_S + 3 * STAMP_S)
    for _ in range(3):
        laptop.look(LINGER_S + 3)
    assert state_of(laptop) == ("asleep", "laptop", False)
    start_job(laptop.database, memory_gib=1, gpu_ids=["1", "0"])
    assert wake(laptop)
    for _ in range(3):
        laptop.look()
    assert process.closed
    assert state_of(laptop) == ("pending", None, False)
    end_jobs(laptop)
    laptop.look()
    assert state_of(laptop) == ("starting", "laptop", False)


def test_a_drained_host_keeps_nothing_that_sleeps(laptop: Laptop) -> None:
    laptop.engine.started[0].can_sleep = True
    quiet_for(laptop, IDLE_S + 3 * STAMP_S)
    for _ in range(3):
        laptop.look(LINGER_S + 3)
    with laptop.database.unit_of_work() as work:
        work.hosts.drain("laptop", draining=True)
    laptop.look()
    laptop.look(LINGER_S + 3)
    assert state_of(laptop) == ("asleep", None, False)
    assert laptop.engine.started[0].closed


def test_what_sleeps_stays_asleep_when_its_worker_stops(laptop: Laptop) -> None:
    laptop.engine.started[0].can_sleep = True
    quiet_for(laptop, IDLE_S + 3 * STAMP_S)
    for _ in range(3):
        laptop.look(LINGER_S + 3)
    laptop.worker.stop(laptop.now_s)
    assert state_of(laptop) == ("asleep", None, False)
    laptop.worker.tick_services(laptop.now_s + 3 * RestartPolicy().drain_s)
