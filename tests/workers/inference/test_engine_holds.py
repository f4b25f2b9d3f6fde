"""What a deployment gives up is given to others only when the engines that use it have ended: no processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import cast
from uuid import uuid4

import pytest
from sqlalchemy import text

from storage.database import Database
from storage.repositories.serving.engine_holds import HOLD_S
from storage.settings import LeaseTimes
from tests.workers.inference.engines import FakeEngine
from tests.workers.inference.test_claims import GIB, GPU_IDS, deploy, row_of
from tests.workers.inference.test_serving import AtOnce, FakeCache
from workers.daemon.wakeup import Wakeup
from workers.engines.interface import EngineState
from workers.inference.deployed_model import LINGER_S
from workers.inference.means import Means
from workers.inference.model_folders import ModelFolders
from workers.inference.reconciler import Reconciler
from workers.inference.replicas import RestartPolicy


@dataclass
class Laptop:
    """A host with 8 GiB and three GPUs, and the inference worker on it."""

    database: Database
    name: str = "laptop"
    wakeup: Wakeup = field(default_factory=Wakeup)
    engine: FakeEngine = field(default_factory=FakeEngine)
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.instance = uuid4()
        self.start()

    def crash(self) -> None:
        """Engines end with their worker, which says nothing; another one is started."""
        for service in self.worker.services.values():
            service.end(self.now_s)
        self.worker.tick_services(self.now_s)
        self.start()

    def start(self) -> None:
        means = Means({"fake": self.engine}, cast(ModelFolders, FakeCache()), AtOnce(), self.wakeup)
        self.worker = Reconciler(
            self.database, self.name, 8 * GIB, LeaseTimes(), means, GPU_IDS, warm=False, instance=self.instance
        )

    def close(self) -> None:
        for process in self.engine.started:
            process.deaf = False
        self.worker.stop(self.now_s)
        self.worker.tick_services(self.now_s)
        self.wakeup.close()

    def look(self, seconds: float = 3.0) -> None:
        for _ in range(3):
            self.now_s += seconds / 3
            self.worker.tick(self.now_s)

    def serve(self, name: str = "model", *, memory_gib: int, gpus: int) -> None:
        deploy(self.database, name, memory_gib=memory_gib, gpus=gpus)
        self.look()
        self.engine.started[-1].now = EngineState.ready
        self.look()

    def room(self) -> tuple[int, int, set[str]]:
        """GiB and GPUs that others may have, and the GPUs that they may not: as jobs and deployments see it."""
        with self.database.unit_of_work() as work:
            room = work.hosts.room(self.name)
            taken = work.engine_holds.taken_by_host().get(self.name)
        assert room is not None
        memory_bytes, gpus = (taken.memory_bytes, taken.gpus) if taken is not None else (0, 0)
        assert (8 * GIB - memory_bytes, 3 - gpus) == (room.memory_bytes, room.gpus), "the scheduler counts the same"
        return room.memory_bytes // GIB, room.gpus, set(room.gpu_ids_taken)


@pytest.fixture
def laptop(database_url: str) -> Iterator[Laptop]:
    with closing(Database(database_url)) as database:
        laptop = Laptop(database)
        yield laptop
        laptop.close()


def test_what_a_smaller_generation_gives_up_is_free_only_when_the_old_engine_has_ended(laptop: Laptop) -> None:
    laptop.serve(memory_gib=6, gpus=2)
    old = laptop.engine.started[-1]
    old.deaf = True
    deploy(laptop.database, "model", memory_gib=1, gpus=1)
    deploy(laptop.database, "other", memory_gib=4, gpus=2)
    assert laptop.room() == (2, 1, {"GPU-5", "1"}), "nobody has looked yet"
    laptop.look()
    assert laptop.room() == (2, 1, {"GPU-5", "1"}), "the new engine starts"
    laptop.engine.started[-1].now = EngineState.ready
    laptop.look(LINGER_S + 3)
    assert laptop.room() == (2, 1, {"GPU-5", "1"}), "the old engine ends"
    assert row_of(laptop.database, "other").host is None
    laptop.look(3 * RestartPolicy().drain_s)
    assert old.closed
    laptop.look()
    assert row_of(laptop.database, "other").host == "laptop"
    assert row_of(laptop.database, "other").gpu_ids == ["1", "0"]
    assert laptop.room() == (3, 0, {"GPU-5", "1", "0"})


def test_one_that_grows_again_gets_the_gpus_that_its_old_engine_uses(laptop: Laptop) -> None:
    laptop.serve(memory_gib=1, gpus=2)
    for gpus in (1, 2):
        deploy(laptop.database, "model", gpus=gpus)
        laptop.look()
        assert laptop.room() == (7, 1, {"GPU-5", "1"})


def test_a_crash_of_the_inference_worker_frees_nothing_until_the_next_one_looks(laptop: Laptop) -> None:
    laptop.serve(memory_gib=6, gpus=2)
    deploy(laptop.database, "model", memory_gib=1, gpus=1)
    laptop.look()
    assert laptop.room() == (2, 1, {"GPU-5", "1"})
    laptop.crash()
    assert laptop.room() == (2, 1, {"GPU-5", "1"})
    laptop.look()
    assert laptop.room() == (7, 2, {"GPU-5"})


def test_a_new_generation_that_fails_leaves_the_old_engine_what_it_uses(laptop: Laptop) -> None:
    laptop.serve(memory_gib=6, gpus=2)
    deploy(laptop.database, "model", memory_gib=1, gpus=1)
    for _ in range(RestartPolicy().quick_deaths_max):
        laptop.look()
        if laptop.engine.started[-1] is not laptop.engine.started[0]:
            laptop.engine.started[-1].now = EngineState.exited
        laptop.look(60)
    assert row_of(laptop.database, "model").endpoint is not None
    assert laptop.room() == (2, 1, {"GPU-5", "1"})


def test_a_deployment_that_goes_elsewhere_or_ends_is_counted_until_its_engine_has_ended(laptop: Laptop) -> None:
    laptop.serve(memory_gib=6, gpus=2)
    laptop.engine.started[-1].deaf = True
    with laptop.database.unit_of_work() as work:
        work.deployments.place_anew(work.deployments.held("laptop")[0])
        work.deployments.claim("elsewhere", memory_bytes_free=8 * GIB, gpus_free=2, lease_s=60)
    for _ in range(2):
        assert laptop.room() == (2, 1, {"GPU-5", "1"})
        laptop.look()
    laptop.look(3 * RestartPolicy().drain_s)
    laptop.look()
    assert laptop.room() == (8, 3, set())


def test_a_host_that_another_takes_a_deployment_from_is_counted_while_its_engine_may_run(laptop: Laptop) -> None:
    laptop.serve(memory_gib=6, gpus=2)
    with laptop.database.unit_of_work() as work:
        work.deployments.renew("laptop", lease_s=-1)
        assert work.deployments.claim("elsewhere", memory_bytes_free=8 * GIB, gpus_free=2, lease_s=60)
    assert laptop.room() == (2, 1, {"GPU-5", "1"})


def test_a_worker_that_stops_frees_what_it_served_when_its_engines_have_ended(laptop: Laptop) -> None:
    laptop.serve(memory_gib=6, gpus=2)
    laptop.worker.stop(laptop.now_s)
    assert laptop.room() == (2, 1, {"GPU-5", "1"})
    laptop.worker.tick_services(laptop.now_s)
    assert laptop.worker.stopped
    laptop.worker.close()
    assert laptop.room() == (8, 3, set())


def test_a_worker_that_gives_its_last_answers_keeps_what_they_need(laptop: Laptop) -> None:
    laptop.serve(memory_gib=6, gpus=2)
    laptop.engine.started[-1].deaf = True
    laptop.worker.stop(laptop.now_s)
    with laptop.database.unit_of_work() as work:
        work.session.execute(text("UPDATE engine_holds SET lease_until = clock_timestamp() + interval '1 second'"))
    laptop.worker.tick_ending(laptop.now_s + LeaseTimes().heartbeat_s)
    with laptop.database.unit_of_work() as work:
        left_s = "SELECT min(extract(epoch FROM lease_until - clock_timestamp())) FROM engine_holds"
        assert work.session.execute(text(left_s)).scalar_one() > HOLD_S / 2
    assert laptop.room() == (2, 1, {"GPU-5", "1"})
    laptop.engine.started[-1].deaf = False
    laptop.worker.tick_services(laptop.now_s + 3 * RestartPolicy().drain_s)
