"""Micro-batching, without a model: the function that stands for it is controlled by the test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest

from workers.engines.embedded import batching
from workers.engines.embedded.batching import Batcher, Overloaded


class Gate:
    """Infers upper-case texts; the first batch waits for `open`."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> list[str]:
        self.batches.append(list(texts))
        self.entered.set()
        assert self.open.wait(10)
        if "poison" in texts:
            raise ValueError("poison")
        return [text.upper() for text in texts]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def batcher(gate: Gate) -> Iterator[Batcher[str, str]]:
    batcher = Batcher(gate)
    yield batcher
    gate.open.set()
    batcher.close()


async def _queued(
    gate: Gate, batcher: Batcher[str, str], requests: Sequence[list[str]]
) -> list[asyncio.Task[list[str]]]:
    """Submits the requests while the model is busy with another."""
    first = asyncio.create_task(batcher.submit(["first"]))
    await asyncio.to_thread(gate.entered.wait, 10)
    tasks = [asyncio.create_task(batcher.submit(texts)) for texts in requests]
    await asyncio.sleep(0)
    return [first, *tasks]


def test_requests_that_wait_share_a_batch(gate: Gate, batcher: Batcher[str, str]) -> None:
    async def run() -> list[list[str]]:
        tasks = await _queued(gate, batcher, [["a", "b"], ["c"], ["d"]])
        gate.open.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == [["FIRST"], ["A", "B"], ["C"], ["D"]]
    assert gate.batches == [["first"], ["a", "b", "c", "d"]]


def test_a_short_request_overtakes_a_long_one_and_order_is_kept(gate: Gate, batcher: Batcher[str, str]) -> None:
    long = [f"text {number}" for number in range(200)]

    async def run() -> list[list[str]]:
        tasks = await _queued(gate, batcher, [long, ["short"]])
        gate.open.set()
        return await asyncio.gather(*tasks)

    answers = asyncio.run(run())
    assert answers[1] == [text.upper() for text in long]
    assert answers[2] == ["SHORT"]
    assert "short" in gate.batches[1]
    assert max(len(batch) for batch in gate.batches) <= batching.BATCH_ITEMS


def test_a_request_that_fails_fails_alone(gate: Gate, batcher: Batcher[str, str]) -> None:
    async def run() -> list[list[str] | BaseException]:
        tasks = await _queued(gate, batcher, [["a"], ["poison"] * 40, ["b"]])
        gate.open.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(run())
    assert isinstance(answers[2], ValueError)
    assert [answers[1], answers[3]] == [["A"], ["B"]]
    assert batcher.stuck_s() == 0.0


def test_a_cancelled_request_is_not_inferred(gate: Gate, batcher: Batcher[str, str]) -> None:
    async def run() -> list[str]:
        first, cancelled, kept = await _queued(gate, batcher, [["gone"], ["kept"]])
        cancelled.cancel()
        await asyncio.sleep(0.01)
        gate.open.set()
        await first
        return await kept

    assert asyncio.run(run()) == ["KEPT"]
    assert gate.batches == [["first"], ["kept"]]


def test_too_many_waiting_texts_are_refused(
    gate: Gate, batcher: Batcher[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "WAITING_ITEMS_MAX", 3)

    async def run() -> list[list[str]]:
        tasks = await _queued(gate, batcher, [["a", "b"]])
        with pytest.raises(Overloaded, match="Try again"):
            await batcher.submit(["c", "d"])
        gate.open.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(run())[1] == ["A", "B"]


def test_a_batch_in_progress_shows_how_long_it_takes(gate: Gate, batcher: Batcher[str, str]) -> None:
    async def run() -> float:
        (first,) = await _queued(gate, batcher, [])
        stuck_s = batcher.stuck_s()
        gate.open.set()
        await first
        return stuck_s

    assert 0 < asyncio.run(run()) < 10


def test_a_batch_that_notes_progress_is_not_stuck(gate: Gate, batcher: Batcher[str, str]) -> None:
    async def run() -> tuple[float, float]:
        (first,) = await _queued(gate, batcher, [])
        await asyncio.sleep(0.05)
        before_s = batcher.stuck_s()
        batcher.note_progress()
        after_s = batcher.stuck_s()
        gate.open.set()
        await first
        return before_s, after_s

    before_s, after_s = asyncio.run(run())
    assert after_s < before_s
    assert before_s >= 0.05
