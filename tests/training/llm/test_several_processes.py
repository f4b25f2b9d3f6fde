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
PLAIN: dict[str, Any] = {"tuning": "full", "lora": {"dropout": 0.0}, "training": {"micro_batch_tokens": 80}}


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
