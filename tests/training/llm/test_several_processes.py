"""Several processes train one model: the same weights as one process, exact resume, agreed stops, no process left.

They run on the CPU and talk through gloo; on GPUs the same code runs with NCCL.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jobspecs.lifecycle import Reason
from tests.language_models import build_tiny_llm
from tests.training.llm.ranks import RankedRun
from workers.child_task import EXIT_FAILED, EXIT_STOPPED
from workers.zygote_client import ZygoteClient

Start = Callable[..., RankedRun]
#: No dropout: processes draw masks of their own, and could then not be compared with a single one.
PLAIN: dict[str, Any] = {"tuning": "full", "lora": {"dropout": 0.0}, "training": {"micro_batch_tokens": 80, "learning_rate": 1e-3}}


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


def weights(run: RankedRun) -> dict[str, torch.Tensor]:
    name = "model.safetensors" if (run.root / "output" / "model.safetensors").exists() else "adapter_model.safetensors"
    return load_file(run.root / "output" / name)


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_two_processes_give_the_weights_of_one(mode: str, start: Start) -> None:
    alone, together = start("alone", "none", **PLAIN), start("together", mode, **PLAIN)
    expected, found = alone.manifest(), together.manifest()
    before, after = weights(alone), weights(together)
    assert before.keys() == after.keys()
    assert max(float((before[name] - after[name]).abs().max()) for name in before) < 1e-6
    assert found.metrics["validation/loss"] == pytest.approx(expected.metrics["validation/loss"], abs=1e-6)


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_processes_that_were_killed_resume_to_the_same_bytes(mode: str, zygote: ZygoteClient, tmp_path: Path, tiny_llm: Path, chats: Path) -> None:
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
    assert run.child.is_gone()
    assert not [pid for pid in ranks if Path(f"/proc/{pid}").exists()]


def test_ranks_die_with_the_child(start: Start) -> None:
    run = start("broken", "ddp", training={"epochs": 500}).after_step(1)
    ranks = run.ranks()
    os.kill(run.child.pid, signal.SIGKILL)
    assert run.end() == -signal.SIGKILL
    assert run.child.is_gone()
    assert not [pid for pid in ranks if Path(f"/proc/{pid}").exists()]


def test_a_request_to_stop_is_agreed_on_and_leaves_one_checkpoint(start: Start) -> None:
    run = start("stopped", "ddp", training={"epochs": 500, "checkpoint_every_steps": 3}).after_step(3)
    # Only one of them hears it.
    os.kill(run.ranks()[1], signal.SIGUSR1)
    assert run.end() == EXIT_STOPPED
    assert run.failures() == []
    assert run.newest_checkpoint.name in {event.directory.split("/")[-1] for event in run.events if event.type == "checkpoint"}


@pytest.mark.parametrize("mode", ["zero2", "zero3"])
def test_a_worker_without_deepspeed_says_so_before_it_loads_anything(mode: str, start: Start) -> None:
    run = start("refused", mode)
    assert run.end() == EXIT_FAILED
    (failure,) = run.failures()
    assert failure.reason is Reason.unsatisfiable
    assert "pip install deepspeed" in failure.message
