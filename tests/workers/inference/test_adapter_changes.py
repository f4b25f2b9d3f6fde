"""Other adapters for a deployment that serves: engines take them where they can."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobspecs.engines import EMBEDDED
from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.pieces import stored_below
from scheduling.estimates.serving import adapter_bytes
from tests.workers.inference.test_serving import Scene, scene, wanted
from workers.engines.interface import EngineFailure, EngineState
from workers.inference.deployed_model import LINGER_S
from workers.inference.pulls import StoredModel
from workers.inference.wanted import Observed, Wanted

__all__ = ["scene"]

ADAPTER = Manifest(artifact="model", files=(ManifestFile(path="lora", bytes=10, sha256="2" * 64),))
OTHER = Manifest(artifact="model", files=(ManifestFile(path="lora", bytes=10, sha256="3" * 64),))


def with_adapters(generation: int, *manifests: Manifest, replicas: int = 1) -> Wanted:
    """What their memory leaves for keys and values is always the same."""
    named = [
        (f"alice/{manifest.digest[:4]}@1", StoredModel(stored_below(manifest.digest, manifest.files), manifest))
        for manifest in manifests
    ]
    memory_bytes = 1000 + sum(adapter_bytes(manifest.bytes_total) for manifest in manifests)
    return replace(wanted(generation, 1, replicas), memory_bytes=memory_bytes, adapters=tuple(named))


@pytest.fixture
def adapted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Two replicas serve with one adapter."""
    monkeypatch.setattr("workers.inference.pulls.check_files", lambda folder, digest: None)
    scene.service.want(with_adapters(2, ADAPTER, replicas=2), 0)
    scene.ticks(0)
    scene.ready(-2)
    scene.ready(-1)
    assert scene.ticks(1).state == "ready"
    del scene.engine.started[:-2]
    return scene


def told(observed: Observed) -> tuple[str, ...]:
    return EMBEDDED.known(observed.endpoint_model)[1]


def beside(*manifests: Manifest) -> tuple[str, ...]:
    return tuple(f"alice/{manifest.digest[:4]}@1" for manifest in manifests)


def test_other_adapters_come_to_the_engines_that_serve_and_are_told_once_all_have_them(adapted: Scene) -> None:
    before = adapted.service.observed()
    slow = adapted.engine.started[1]
    slow.slow = True
    adapted.service.want(with_adapters(3, OTHER, replicas=2), 2)
    loading = adapted.ticks(2)
    assert (loading.state, loading.endpoint, told(loading)) == ("starting", before.endpoint, beside(ADAPTER))
    slow.slow = False
    loaded = adapted.ticks(3)
    assert (loaded.state, loaded.endpoint, told(loaded)) == ("ready", before.endpoint, beside(OTHER))
    assert len(adapted.engine.started) == 2, "nothing was started"
    # Whoever read the names just before still gets an answer.
    assert [len(process.adapters) for process in adapted.engine.started] == [2, 2]
    assert {ADAPTER.digest, OTHER.digest} <= adapted.service.cached()
    adapted.ticks(3 + LINGER_S + 1)
    assert [one.digest for process in adapted.engine.started for one in process.adapters] == [OTHER.digest] * 2
    assert ADAPTER.digest not in adapted.service.cached()


def test_an_adapter_that_one_engine_does_not_take_is_named_and_the_old_ones_go_on(adapted: Scene) -> None:
    before = adapted.service.observed()
    adapted.engine.started[1].refuses = EngineFailure(Reason.invalid_model, "the adapter does not fit its base")
    adapted.service.want(with_adapters(3, ADAPTER, OTHER, replicas=2), 2)
    refused = adapted.ticks(2)
    assert (refused.state, refused.reason, refused.message) == (
        "failed",
        "invalid_model",
        "the adapter does not fit its base",
    )
    assert (refused.endpoint, told(refused)) == (before.endpoint, beside(ADAPTER))
    assert [one.digest for process in adapted.engine.started for one in process.adapters] == [ADAPTER.digest] * 2
    adapted.service.want(with_adapters(4, ADAPTER, replicas=2), 3)
    assert adapted.ticks(3) == before


def test_an_engine_that_dies_while_it_loads_is_started_again_as_it_was(adapted: Scene) -> None:
    dying = adapted.engine.started[1]
    dying.slow = True
    adapted.service.want(with_adapters(3, ADAPTER, OTHER, replicas=2), 2)
    adapted.ticks(2)
    dying.now = EngineState.exited
    failed = adapted.ticks(3)
    assert (failed.state, failed.reason) == ("failed", "crashed")
    assert "while it loaded adapters" in (failed.message or "")
    adapted.ticks(10)
    assert [adapter.digest for adapter in adapted.engine.orders[-1].adapters] == [ADAPTER.digest]
    adapted.ready()
    assert told(adapted.ticks(11)) == beside(ADAPTER)


@pytest.mark.parametrize("why", ["the engine can't", "other memory"])
def test_engines_that_can_not_have_other_adapters_give_way_to_new_ones(adapted: Scene, why: str) -> None:
    before, change = adapted.service.observed(), with_adapters(3, ADAPTER, OTHER, replicas=2)
    if why == "the engine can't":
        adapted.engine.started[0].takes_adapters = False
    else:
        change = replace(change, memory_bytes=1000)
    adapted.service.want(change, 2)
    assert told(adapted.ticks(2)) == beside(ADAPTER)
    assert len(adapted.engine.started) == 4
    adapted.ready(-2)
    adapted.ready(-1)
    after = adapted.ticks(3)
    assert (after.state, told(after)) == ("ready", beside(ADAPTER, OTHER))
    assert after.endpoint != before.endpoint


def test_what_is_wanted_otherwise_while_engines_load_ends_that(adapted: Scene) -> None:
    for process in adapted.engine.started:
        process.slow = True
    adapted.service.want(with_adapters(3, ADAPTER, OTHER, replicas=2), 2)
    adapted.ticks(2)
    adapted.service.want(with_adapters(4, ADAPTER, replicas=2), 3)
    assert (adapted.ticks(3).state, told(adapted.ticks(3))) == ("ready", beside(ADAPTER))
    for process in adapted.engine.started:
        process.slow = False
    adapted.ticks(4)
    assert told(adapted.service.observed()) == beside(ADAPTER)
