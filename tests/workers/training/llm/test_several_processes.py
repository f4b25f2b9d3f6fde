"""Several processes train one model: the same weights as one process, exact resume, agreed stops, no process left.

They run on the CPU and talk through gloo; on GPUs the same code runs with NCCL.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jobspecs.lifecycle import Reason
from tests.language_models import build_tiny_llm
from tests.workers.training.llm.attempts import conversations, preferences, write_jsonl
from tests.workers.training.llm.ranks import RankedRun
from workers.process.child_task import EXIT_FAILED, EXIT_STOPPED
from workers.process.zygote_client import ZygoteClient

Start = Callable[..., RankedRun]
#: No dropout: processes draw masks of their own, and could then not be compared with a single one.
PLAIN: dict[str, Any] = {
    "lora": {"dropout": 0.0},
    "training": {"epochs": 1, "micro_batch_tokens": 80, "learning_rate": 1e-3},
}
ROWS = {
    "sft": conversations(),
    "dpo": preferences(),
    "kto": [{"prompt": f"{n} what?", "completion": "yes " * (1 + n % 4), "label": n % 2 == 0} for n in range(22)],
}


@pytest.fixture(scope="module")
def zygote() -> Iterator[ZygoteClient]:
    client = ZygoteClient("workers.runners.registry:RUNNERS")
    assert client.ready.wait(60)
    yield client
    client.close()


@pytest.fixture(scope="module")
def plain_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_llm(tmp_path_factory.mktemp("llm") / "llama")


@pytest.fixture
def start(zygote: ZygoteClient, tmp_path: Path, plain_llm: Path, chats: Path) -> Start:
    def begin(name: str, mode: str, **changes: Any) -> RankedRun:
        return RankedRun(zygote, tmp_path / name, plain_llm, chats).start(mode, **changes)

    return begin


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], name: str) -> float:
    return float((one[name] - other[name]).abs().max())


def test_a_zygote_with_every_runner_has_one_thread(zygote: ZygoteClient) -> None:
    assert len(list(Path(f"/proc/{zygote.pid}/task").iterdir())) == 1


def assert_gone(run: RankedRun, ranks: list[int]) -> None:
    """Nothing is left, zombies included. The kernel and the zygote may take a moment."""
    deadline = time.monotonic() + 10
    while not run.child.is_gone() or any(Path(f"/proc/{pid}").exists() for pid in ranks):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.01)


#: Batches of 3 rows in micro-batches of one: in each step one of two processes has nothing to do at the end.
UNEVEN: dict[str, Any] = {"batch_size": 3, "micro_batch_tokens": None, "micro_batch_size": 1}
TOGETHER: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ddp-lora": ("ddp", "llama", {"tuning": "lora", "training": UNEVEN}),
    "ddp-qlora": ("ddp", "llama", {"tuning": "qlora", "training": {"gradient_checkpointing": True}}),
    "ddp-kto": ("ddp", "llama", {"tuning": "lora", "objective": "kto"}),
    # Input and output embeddings are one matrix.
    "fsdp-tied": ("fsdp", "qwen3", {"tuning": "full", "training": {**UNEVEN, "gradient_checkpointing": True}}),
    "fsdp-dpo": ("fsdp", "llama", {"tuning": "lora", "objective": "dpo"}),
}


@pytest.mark.parametrize("way", TOGETHER)
def test_two_processes_give_the_weights_of_one(way: str, zygote: ZygoteClient, tmp_path: Path) -> None:
    mode, architecture, changes = TOGETHER[way]
    changes = {**PLAIN, **changes, "training": {**PLAIN["training"], **changes.get("training", {})}, "output": "merged"}
    model = build_tiny_llm(tmp_path / "model", architecture)
    data = write_jsonl(tmp_path / "rows.jsonl", ROWS[changes.get("objective", "sft")])
    alone, together = (RankedRun(zygote, tmp_path / name, model, data) for name in ("alone", "together"))
    alone.start("none", **changes)
    together.start(mode, **changes)
    expected, found = alone.manifest(), together.manifest()
    start, before, after = (
        load_file(folder / "model.safetensors") for folder in (model, alone.output, together.output)
    )
    assert before.keys() == after.keys()
    assert max(difference(start, before, name) for name in before) > 1e-3
    assert max(difference(before, after, name) for name in before) < 1e-6
    assert found.metrics == {name: pytest.approx(value, abs=1e-5) for name, value in expected.metrics.items()}
    assert found.report["samples"] == expected.report["samples"]


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_processes_that_were_killed_resume_to_the_same_bytes(
    mode: str, zygote: ZygoteClient, tmp_path: Path, tiny_llm: Path, chats: Path
) -> None:
    way: dict[str, Any] = {"tuning": "full" if mode == "fsdp" else "lora"}
    runs = [RankedRun(zygote, tmp_path / name, tiny_llm, chats) for name in ("whole", "broken", "resumed")]
    whole = runs[0].start(mode, **way).manifest()
    runs[1].start(mode, **way).after_step(3).kill()
    resumed = runs[2].start(mode, resume_from=runs[1].newest_checkpoint, **way).manifest()
    assert resumed.report["training"]["resumed_at_step"] >= 3
    assert (resumed.digest, resumed.metrics) == (whole.digest, whole.metrics)


def test_a_rank_that_is_killed_ends_the_job_and_leaves_no_process(start: Start) -> None:
    run = start("broken", "ddp", training={"epochs": 500}).after_step(2)
    ranks = run.ranks()
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    assert run.end() == -signal.SIGKILL
    assert "rank 1 was killed by SIGKILL" in run.logs()
    assert_gone(run, ranks)


def test_ranks_die_with_the_child(start: Start) -> None:
    run = start("broken", "ddp", training={"epochs": 500}).after_step(1)
    ranks = run.ranks()
    os.kill(run.child.pid, signal.SIGKILL)
    assert run.end() == -signal.SIGKILL
    assert_gone(run, ranks)


def test_a_request_to_stop_is_agreed_on_and_leaves_one_checkpoint(start: Start) -> None:
    run = start("stopped", "ddp", training={"epochs": 500, "checkpoint_every_steps": 3}).after_step(3)
    # Only one of them hears it.
    os.kill(run.ranks()[1], signal.SIGUSR1)
    assert run.end() == EXIT_STOPPED
    assert run.failures() == []
    assert run.newest_checkpoint.name in {
        event.directory.split("/")[-1] for event in run.events if event.type == "checkpoint"
    }


@pytest.mark.parametrize("mode", ["zero2", "zero3"])
def test_a_worker_without_deepspeed_says_so_before_it_loads_anything(mode: str, start: Start) -> None:
    run = start("refused", mode)
    assert run.end() == EXIT_FAILED
    (failure,) = run.failures()
    assert failure.reason == Reason.unsatisfiable
    assert "pip install deepspeed" in failure.message
