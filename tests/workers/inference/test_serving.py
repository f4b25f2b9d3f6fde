"""How one deployment gets from wanted to served, with a clock of our own and no processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.pieces import StoredFile, stored_below
from storage.objects import ObjectCorrupt, ObjectStoreUnavailable
from tests.workers.inference.engines import FakeEngine
from workers.daemon.wakeup import Wakeup
from workers.engines.interface import EngineFailure, EngineState
from workers.inference.deployed_model import LINGER_S, Service
from workers.inference.means import Means
from workers.inference.model_folders import ModelFolders
from workers.inference.pulls import MissingBase, StoredModel
from workers.inference.wanted import Observed, Wanted

DEPLOYMENT_ID = uuid4()


@dataclass
class FakeCache:
    errors: list[Exception] = field(default_factory=list)
    pulled: list[str] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)

    def pull(self, files: Sequence[StoredFile], manifest: Manifest) -> Path:
        if self.errors:
            raise self.errors.pop(0)
        self.pulled.append(manifest.digest)
        return Path(files[0].pieces[0].key).parent

    def discard(self, digest: str) -> None:
        self.discarded.append(digest)

    def free_bytes(self) -> int:
        return 5

    def prune(self, in_use: set[str]) -> None:
        pass


class AtOnce(Executor):
    """Runs what is submitted there and then."""

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future


def wanted(generation: int, version: int, replicas: int = 1) -> Wanted:
    manifest = Manifest(artifact="model", files=(ManifestFile(path="a", bytes=version, sha256="0" * 64),))
    stored = StoredModel(stored_below(f"v{version}", manifest.files), manifest)
    return Wanted(DEPLOYMENT_ID, generation, f"alice/m@{version}", stored, "text-generation", "fake", replicas, 1)


@dataclass
class Scene:
    service: Service
    engine: FakeEngine
    cache: FakeCache

    def ticks(self, start_s: float, count: int = 5) -> Observed:
        for step in range(count):
            self.service.tick(start_s + step / 100)
        return self.service.observed()

    def ready(self, index: int = -1) -> None:
        self.engine.started[index].now = EngineState.ready


@pytest.fixture
def scene() -> Iterator[Scene]:
    engine, cache = FakeEngine(), FakeCache()
    wakeup = Wakeup()
    means = Means({"fake": engine}, cast(ModelFolders, cache), AtOnce(), wakeup)
    service = Service(means, wanted(1, 1))
    yield Scene(service, engine, cache)
    service.end(1e6)
    for step in range(3):
        service.tick(1e6 + step)
    wakeup.close()
    assert service.ended
    assert all(process.closed for process in engine.started)


def test_a_deployment_is_ready_when_its_engine_is(scene: Scene) -> None:
    assert scene.ticks(0) == Observed("starting")
    scene.ready()
    observed = scene.ticks(1)
    assert (observed.state, observed.endpoint_key) == ("ready", scene.engine.orders[0].key)


def test_the_old_engine_serves_until_the_new_one_is_ready_and_lingers(scene: Scene) -> None:
    scene.ticks(0)
    scene.ready()
    old = scene.ticks(1)
    scene.service.want(wanted(2, 2), 2)
    changing = scene.ticks(2)
    assert (changing.state, changing.endpoint) == ("starting", old.endpoint)
    scene.ready()
    new = scene.ticks(3)
    assert new.state == "ready"
    assert new.endpoint != old.endpoint
    assert new.endpoint_key != old.endpoint_key
    assert scene.engine.started[0].now is EngineState.ready
    scene.ticks(3 + LINGER_S + 1)
    assert scene.engine.started[0].closed


def test_a_new_generation_of_the_same_thing_keeps_its_engine(scene: Scene) -> None:
    scene.ticks(0)
    scene.ready()
    before = scene.ticks(1)
    scene.service.want(wanted(2, 1), 2)
    assert scene.ticks(2) == before
    assert len(scene.engine.started) == 1


def test_a_generation_that_is_overtaken_while_it_starts_is_stopped(scene: Scene) -> None:
    scene.ticks(0)
    scene.service.want(wanted(2, 2), 1)
    scene.ticks(1)
    assert scene.engine.started[0].closed
    scene.ready()
    assert scene.ticks(2).state == "ready"
    assert scene.engine.orders[-1].model == "alice/m@2"


def test_a_store_that_is_away_is_asked_again_and_the_reason_is_shown(scene: Scene) -> None:
    scene.cache.errors = [ObjectStoreUnavailable("away")] * 2
    observed = scene.ticks(0)
    assert (observed.state, observed.reason, observed.message) == ("starting", "storage_unavailable", "away")
    scene.ticks(1.1)
    assert scene.ticks(2.9).reason == "storage_unavailable"
    assert scene.ticks(3.2).reason is None
    scene.ready()
    assert scene.ticks(4).state == "ready"


def test_a_corrupt_object_fails_the_deployment_without_an_engine(scene: Scene) -> None:
    scene.cache.errors = [ObjectCorrupt("v1/a", "sha256 0", "sha256 1")]
    observed = scene.ticks(0)
    assert (observed.state, observed.reason, observed.endpoint) == ("failed", "corrupt_artifact", None)
    assert not scene.engine.started


def test_a_full_disk_is_named(scene: Scene) -> None:
    scene.cache.errors = [OSError(28, "No space left on device")]
    assert scene.ticks(0).reason == "disk_full"


def test_a_damaged_copy_is_fetched_anew_once(scene: Scene) -> None:
    for start_s in (0, 1):
        scene.ticks(start_s)
        scene.engine.started[-1].given_up = EngineFailure(Reason.corrupt_artifact, "a is damaged")
        scene.engine.started[-1].now = EngineState.exited
    observed = scene.ticks(2)
    assert (observed.state, observed.reason) == ("failed", "corrupt_artifact")
    assert len(scene.cache.discarded) == 1
    assert len(scene.engine.started) == 2


def test_a_deployment_whose_engine_died_is_starting_without_an_address(scene: Scene) -> None:
    scene.ticks(0)
    scene.ready()
    scene.ticks(1)
    scene.engine.started[0].now = EngineState.exited
    observed = scene.ticks(2)
    assert (observed.state, observed.endpoint) == ("starting", None)
    scene.ticks(4)
    scene.ready()
    assert scene.ticks(5).state == "ready"


def test_an_adapter_starts_with_its_base_and_both_are_fetched_anew_when_one_is_damaged(scene: Scene) -> None:
    manifest = Manifest(artifact="model", files=(ManifestFile(path="b", bytes=9, sha256="1" * 64),))
    base = StoredModel(stored_below("base", manifest.files), manifest)
    adapter = replace(wanted(2, 2), base=base)
    scene.service.want(adapter, 0)
    scene.ticks(0)
    order = scene.engine.orders[-1]
    assert (order.model_dir, order.base_dir, order.base_digest) == (Path("v2"), Path("base"), base.manifest.digest)
    digests = {adapter.digest, base.manifest.digest}
    assert digests <= scene.service.cached()
    scene.engine.started[-1].given_up = EngineFailure(Reason.corrupt_artifact, "b is damaged")
    scene.engine.started[-1].now = EngineState.exited
    scene.ticks(1)
    assert set(scene.cache.discarded) == digests
    scene.ready()
    assert scene.ticks(2).state == "ready"


def test_an_adapter_without_its_base_fails_with_the_reason(scene: Scene) -> None:
    scene.service.want(replace(wanted(2, 2), base=MissingBase("alice/base@1 is gone")), 0)
    observed = scene.ticks(0)
    assert (observed.state, observed.reason, observed.message) == ("failed", "invalid_model", "alice/base@1 is gone")
    assert not scene.engine.started


def test_more_memory_is_a_reason_to_start_new_engines(scene: Scene) -> None:
    scene.ticks(0)
    scene.ready()
    scene.ticks(1)
    scene.service.want(replace(wanted(2, 1), memory_bytes=2), 2)
    scene.ticks(2)
    assert [order.memory_bytes for order in scene.engine.orders] == [1, 2]
    scene.ready()
    assert scene.ticks(3).state == "ready"
