"""An interrupted finetune-llm ends with the same bytes as an unbroken one, dropout and noise included."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jobspecs.manifest import Manifest
from tests.workers.training.attempts import Killed
from tests.workers.training.llm.attempts import LlmAttempt
from workers.training.checkpoints import read_state

#: 20 rows in batches of 4, 2 epochs.
STEPS = 10
WAYS: dict[str, dict[str, Any]] = {
    "full": {"tuning": "full", "training": {"neftune_alpha": 5.0}},
    "lora": {"tuning": "lora", "training": {"micro_batch_tokens": 60, "gradient_checkpointing": True}},
    "qlora": {"tuning": "qlora"},
    "dpo": {"objective": "dpo", "tuning": "lora"},
    "dpo-full": {"objective": "dpo", "tuning": "full"},
    "best": {
        "tuning": "lora",
        "training": {"early_stopping": {"every_steps": 2, "patience": 1}, "keep_best": True, "learning_rate": 3.0},
    },
}


def same_result(one: Manifest, other: Manifest) -> bool:
    return one.digest == other.digest and one.metrics == other.metrics


@pytest.mark.parametrize("way", WAYS)
def test_a_killed_run_resumes_to_the_same_bytes(
    way: str, tmp_path: Path, tiny_llm: Path, chats: Path, pairs: Path
) -> None:
    data = pairs if way.startswith("dpo") else chats
    whole = LlmAttempt(tmp_path / "whole", tiny_llm, data).run(**WAYS[way])
    last = whole.report["training"]["steps"]
    step = random.Random(way).randrange(1, last)
    broken = LlmAttempt(tmp_path / "broken", tiny_llm, data)
    with pytest.raises(Killed):
        broken.run(kill_after_step=step, **WAYS[way])
    torch.manual_seed(999)  # another process would have other random numbers
    resumed = LlmAttempt(tmp_path / "resumed", tiny_llm, data).run(resume_from=broken.newest_checkpoint, **WAYS[way])
    assert resumed.report["training"]["resumed_at_step"] == step
    assert same_result(resumed, whole)


def test_training_stops_early_and_ends_with_the_best_weights(tmp_path: Path, tiny_llm: Path, chats: Path) -> None:
    attempt = LlmAttempt(tmp_path / "whole", tiny_llm, chats)
    manifest = attempt.run(**WAYS["best"])
    training = manifest.report["training"]
    assert training["steps"] < STEPS
    assert training["best_step"] < training["steps"]
    measured = {
        event.step: event.value
        for event in attempt.events
        if event.type == "metric" and event.name == "validation/loss"
    }
    assert measured[training["best_step"]] == min(
        value for step, value in measured.items() if step != training["steps"]
    )
    assert manifest.metrics["validation/loss"] == pytest.approx(measured[training["best_step"]], rel=1e-6)


def test_a_checkpoint_of_an_adapter_holds_nothing_frozen(tmp_path: Path, tiny_llm: Path, chats: Path) -> None:
    attempt = LlmAttempt(tmp_path / "whole", tiny_llm, chats)
    attempt.run(tuning="qlora")
    names = load_file(attempt.newest_checkpoint / "model.safetensors")
    assert names and all("lora_" in name for name in names)


def test_another_seed_of_the_data_refuses_the_checkpoint(tmp_path: Path, tiny_llm: Path, chats: Path) -> None:
    broken = LlmAttempt(tmp_path / "broken", tiny_llm, chats)
    with pytest.raises(Killed):
        broken.run(kill_after_step=3)
    assert read_state(broken.newest_checkpoint, _fingerprint(broken.newest_checkpoint)).step == 3
    resumed = LlmAttempt(tmp_path / "resumed", tiny_llm, chats)
    manifest = resumed.run(resume_from=broken.newest_checkpoint, validation={"seed": 1})
    assert manifest.report["training"]["resumed_at_step"] == 0


def _fingerprint(checkpoint: Path) -> str:
    return str(json.loads((checkpoint / "state.json").read_bytes())["fingerprint"])
