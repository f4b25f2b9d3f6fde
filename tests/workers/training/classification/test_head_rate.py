"""How fast the layers between encoder and classes learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from jobspecs.manifest import read_manifest
from tests.workers.training.attempts import Attempt
from workers.local_models.base_model import is_of_head, load_base

#: One step without decay: AdamW then moves every weight that has a gradient by its learning rate.
STEP = {"epochs": 0.01, "learning_rate": 1e-4, "warmup_fraction": 0, "weight_decay": 0, "dropout": 0}


def moved(root: Path, base: Path, data: Path, **settings: Any) -> tuple[float, float, Path]:
    """By how much the step moved the encoder's weights and the head's, at most; and the result's folder."""
    attempt = Attempt(root, base, data)
    attempt.run(training={**STEP, **settings})
    before = load_base(base, ("bad", "good"), 42, 0.0).model.state_dict()
    after = load_file(attempt.root / "out" / "model.safetensors")
    by = {name: float((after[name] - before[name]).abs().max()) for name in after}
    of_head = {name for name in by if is_of_head(name, "bert.")}
    assert {name.split(".")[0] for name in of_head} == {"classifier", "bert"} and "bert.pooler.dense.weight" in of_head
    encoder = max(value for name, value in by.items() if name not in of_head)
    head, out = max(by[name] for name in of_head), attempt.root / "out"
    told = read_manifest(out).report["training"]["head_learning_rate"]
    assert told == pytest.approx(head, rel=0.05)
    assert f"The head's learning rate was {told:g}." in (out / "README.md").read_text(encoding="utf-8")
    return encoder, head, out


def test_a_new_head_learns_ten_times_as_fast_and_one_that_knows_its_classes_as_the_encoder(
    tmp_path: Path, tiny_bert: Path, dataset: Path
) -> None:
    encoder, head, trained = moved(tmp_path / "new", tiny_bert, dataset)
    assert (encoder, head) == pytest.approx((1e-4, 1e-3), rel=0.05)
    encoder, head, _ = moved(tmp_path / "own", trained, dataset)
    assert (encoder, head) == pytest.approx((1e-4, 1e-4), rel=0.05)
    encoder, head, _ = moved(tmp_path / "given", tiny_bert, dataset, head_learning_rate=3e-4)
    assert (encoder, head) == pytest.approx((1e-4, 3e-4), rel=0.05)
