"""How fast the layers between encoder and classes learn."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from jobspecs.manifest import read_manifest
from tests.workers.training.attempts import Attempt
from workers.local_models.base_model import is_of_head, load_base

#: One step without decay: AdamW then moves every weight that has a gradient by its learning rate.
STEP = {"epochs": 0.01, "learning_rate": 1e-4, "warmup_fraction": 0, "weight_decay": 0, "dropout": 0}


def moved(root: Path, base: Path, data: Path, **settings: Any) -> tuple[tuple[float, float, float], Path]:
    """By how much the step moved weights of the encoder, its pooler and the classes, at most; the result's folder."""
    attempt = Attempt(root, base, data)
    attempt.run(training={**STEP, **settings})
    before = load_base(base, ("bad", "good"), 42, 0.0).model.state_dict()
    after = load_file(attempt.root / "out" / "model.safetensors")
    by = {name: float((after[name] - before[name]).abs().max()) for name in after}
    of_head = {name for name in by if is_of_head(name, "bert.")}
    pooler = {name for name in of_head if name.startswith("bert.pooler.")}
    most = [max(by[name] for name in names) for names in (set(by) - of_head, pooler, of_head - pooler)]
    out = attempt.root / "out"
    told = read_manifest(out).report["training"]["head_learning_rate"]
    assert told == pytest.approx(most[2], rel=0.05)
    assert f"The head's learning rate was {told:g}." in (out / "README.md").read_text(encoding="utf-8")
    return (most[0], most[1], most[2]), out


def test_layers_drawn_for_the_job_learn_ten_times_as_fast_and_what_the_base_brings_as_the_encoder(
    tmp_path: Path, tiny_bert: Path, dataset: Path
) -> None:
    rates, trained = moved(tmp_path / "new", tiny_bert, dataset)
    assert rates == pytest.approx((1e-4, 1e-4, 1e-3), rel=0.05)
    rates, _ = moved(tmp_path / "own", trained, dataset)
    assert rates == pytest.approx((1e-4, 1e-4, 1e-4), rel=0.05)
    rates, _ = moved(tmp_path / "given", tiny_bert, dataset, head_learning_rate=3e-4)
    assert rates == pytest.approx((1e-4, 3e-4, 3e-4), rel=0.05)


def test_a_pooler_that_the_base_lacks_learns_as_fast_as_the_classes(
    tmp_path: Path, tiny_bert: Path, dataset: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(tiny_bert, bare)
    weights = load_file(bare / "model.safetensors")
    held = {name: tensor for name, tensor in weights.items() if "pooler." not in name}
    assert len(held) == len(weights) - 2
    save_file(held, bare / "model.safetensors", metadata={"format": "pt"})
    rates, _ = moved(tmp_path / "run", bare, dataset)
    assert rates == pytest.approx((1e-4, 1e-3, 1e-3), rel=0.05)
