"""What comes out of use on an inference host is thinned out, with a clock of our own and no processes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import cast

from storage.database import Database
from storage.settings import LeaseTimes
from tests.workers.inference.engines import FakeEngine
from tests.workers.inference.test_serving import DEPLOYMENT_ID, AtOnce, FakeCache, wanted
from workers.daemon.wakeup import Wakeup
from workers.engines.interface import EngineState
from workers.inference.deployed_model import LINGER_S, Service
from workers.inference.means import Means
from workers.inference.model_folders import ModelFolders
from workers.inference.reconciler import Reconciler


@dataclass
class PrunedCache(FakeCache):
    kept: list[set[str]] = field(default_factory=list)

    def prune(self, in_use: Collection[str]) -> None:
        self.kept.append(set(in_use))


def test_the_old_version_may_go_once_the_new_one_serves_and_its_last_answers_are_given() -> None:
    engine, cache, wakeup = FakeEngine(), PrunedCache(), Wakeup()
    means = Means({"fake": engine}, cast(ModelFolders, cache), AtOnce(), wakeup)
    service = Service(means, wanted(1, 1))
    reconciler = Reconciler(
        database=cast(Database, None),
        host="here",
        memory_bytes=0,
        lease=LeaseTimes(),
        means=means,
        services={DEPLOYMENT_ID: service},
        _looked_at_s=float("inf"),  # the database is not asked
    )

    def serve(start_s: float) -> None:
        for step in range(5):
            reconciler.tick(start_s + step / 100)
            for process in engine.started:
                if process.now is EngineState.starting:
                    process.now = EngineState.ready

    try:
        serve(0)
        service.want(wanted(2, 2), 1)
        serve(1)
        assert service.observed().state == "ready"
        assert not cache.kept, "the old engine still answers"
        serve(2 + LINGER_S)
        assert cache.kept == [{wanted(2, 2).digest}]
    finally:
        for at_s in (100.0, 101.0):
            service.end(at_s)
            service.tick(at_s)
        wakeup.close()
