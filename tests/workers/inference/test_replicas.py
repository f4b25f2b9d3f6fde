"""When engine processes are started again and when they are given up, with a clock of our own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jobspecs.lifecycle import Reason
from tests.workers.inference.engines import FakeEngine
from workers.engines.interface import EngineFailure, EngineOrder, EngineState, Tokens
from workers.inference.replicas import ReplicaSet, RestartPolicy

ORDER = EngineOrder("alice/model@1", "text-classification", Path("model"), "d" * 64, 0, "key")
POLICY = RestartPolicy(backoff_first_s=1, backoff_max_s=4, quick_s=60, quick_deaths_max=3, start_timeout_s=100)
LAST_S = POLICY.drain_s + POLICY.stop_grace_s


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def test_a_set_is_complete_when_every_replica_is_ready(engine: FakeEngine) -> None:
    replicas = ReplicaSet(engine, ORDER, 2, POLICY)
    replicas.tick(0)
    engine.started[0].now = EngineState.ready
    assert (replicas.ready, replicas.complete) == (True, False)
    engine.started[1].now = EngineState.ready
    assert replicas.complete
    replicas.stop(1)


def test_a_dead_engine_is_started_again_with_growing_backoff_and_then_given_up(engine: FakeEngine) -> None:
    replicas = ReplicaSet(engine, ORDER, 1, POLICY)
    starts = []
    for now_s in range(30):
        count = len(engine.started)
        replicas.tick(now_s)
        if len(engine.started) > count:
            starts.append(now_s)
            engine.started[-1].now = EngineState.exited
    assert starts == [0, 2, 5]
    assert replicas.failure is not None
    assert replicas.failure.reason is Reason.crashed
    assert "SIGSEGV" in replicas.failure.message
    assert "last words" in replicas.failure.message
    assert replicas.stopped
    assert all(process.closed for process in engine.started)


def test_deaths_far_apart_are_not_counted_together(engine: FakeEngine) -> None:
    replicas = ReplicaSet(engine, ORDER, 1, POLICY)
    for start_s in range(0, 1000, 100):
        replicas.tick(start_s)
        engine.started[-1].now = EngineState.ready
        replicas.tick(start_s + 90)
        engine.started[-1].now = EngineState.exited
        replicas.tick(start_s + 91)
    assert replicas.failure is None
    assert len(engine.started) == 10
    replicas.stop(1001)


def test_a_model_that_can_never_be_served_is_not_tried_again(engine: FakeEngine) -> None:
    replicas = ReplicaSet(engine, ORDER, 1, POLICY)
    replicas.tick(0)
    engine.started[0].given_up = EngineFailure(Reason.corrupt_artifact, "model.safetensors is damaged")
    engine.started[0].now = EngineState.exited
    replicas.tick(1)
    replicas.tick(100)
    assert replicas.failure == EngineFailure(Reason.corrupt_artifact, "model.safetensors is damaged")
    assert len(engine.started) == 1


def test_a_replica_that_serves_keeps_the_model_alive_while_another_crashes(engine: FakeEngine) -> None:
    replicas = ReplicaSet(engine, ORDER, 2, POLICY)
    replicas.tick(0)
    engine.started[0].now = EngineState.ready
    for now_s in range(1, 40):
        engine.started[-1].now = EngineState.exited if len(engine.started) > 1 else EngineState.ready
        replicas.tick(now_s)
    assert replicas.failure is None
    assert replicas.ready
    replicas.stop(50)


def test_an_engine_that_never_gets_ready_is_killed(engine: FakeEngine) -> None:
    replicas = ReplicaSet(engine, ORDER, 1, POLICY)
    replicas.tick(0)
    replicas.tick(101)
    assert engine.started[0].now is EngineState.exited
    replicas.stop(102)


def test_an_engine_gets_time_for_its_last_answers_and_a_deaf_one_is_killed_after_it(engine: FakeEngine) -> None:
    replicas = ReplicaSet(engine, ORDER, 1, POLICY)
    replicas.tick(0)
    engine.started[0].deaf = True
    replicas.stop(1)
    replicas.tick(LAST_S + 1)
    assert not replicas.stopped
    replicas.tick(LAST_S + 2)
    replicas.tick(LAST_S + 3)
    assert replicas.stopped


def test_a_system_without_room_for_a_process_counts_as_a_death(engine: FakeEngine) -> None:
    engine.refuses = True
    replicas = ReplicaSet(engine, ORDER, 1, POLICY)
    for now_s in range(10):
        replicas.tick(now_s)
    assert replicas.failure is not None
    assert "no more processes" in replicas.failure.message


def test_two_sets_never_choose_the_same_port(engine: FakeEngine) -> None:
    sets = [ReplicaSet(engine, ORDER, 1, POLICY) for _ in range(50)]
    assert len({replicas.endpoint for replicas in sets}) == 50
    for replicas in sets:
        replicas.stop(0)


@pytest.mark.parametrize(
    ("gpu_ids", "seen"),
    [((), [(), (), ()]), (("3",), [("3",)] * 3), (("3", "GPU-1"), [("3",), ("GPU-1",), ("3",)])],
    ids=["cpu", "shared", "in turn"],
)
def test_each_replica_sees_one_gpu_of_the_deployment(
    engine: FakeEngine, gpu_ids: tuple[str, ...], seen: list[tuple[str, ...]]
) -> None:
    replicas = ReplicaSet(engine, replace(ORDER, gpu_ids=gpu_ids), 3, POLICY)
    replicas.tick(0)
    assert [order.gpu_ids for order in engine.orders] == seen
    replicas.stop(1)


def test_tokens_of_replicas_and_of_those_that_are_started_again_add_up(engine: FakeEngine) -> None:
    replicas = ReplicaSet(engine, ORDER, 2, POLICY)
    replicas.tick(0)
    first, second = engine.started
    first.told, second.told = Tokens(10, 1), Tokens(100, 20)
    for now_s in (1, 2):
        replicas.tick(now_s)
    first.told, first.now = Tokens(15, 2), EngineState.exited
    replicas.tick(3)
    replicas.tick(10)
    engine.started[2].told = Tokens(3, 1)
    replicas.tick(11)
    second.told = Tokens(101, 20)
    replicas.stop(12)
    assert replicas.tokens == {
        ("prompt_tokens", "text-classification"): 15 + 3 + 101,
        ("generated_tokens", "text-classification"): 2 + 1 + 20,
    }
