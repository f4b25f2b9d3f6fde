"""Every method against mergekit on the same models: equal to the last bit, in fp32 and in bf16.

Of changes that are equally large, as many are in bf16, `ties` keeps the first ones. mergekit keeps whichever its sort
leaves in front, and is told here to sort stably, so that both choose the same ones.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions

from tests.language_models import build_tiny_llm
from tests.workers.merging.merges import child_of, merged, tensors_of

BASE = {"base_model": "base"}
BOTH = {"models": [{"model": "one", "parameters": {"weight": 0.3}}, {"model": "two", "parameters": {"weight": 0.9}}]}
SPREAD = {
    "models": [
        {"model": "one", "parameters": {"weight": [0.2, 0.9], "density": 0.4}},
        {
            "model": "two",
            "parameters": {"weight": [{"filter": "mlp", "value": [1, 0]}, {"value": 0.5}], "density": 0.7},
        },
    ]
}
T = [{"filter": "self_attn", "value": [0, 0.5, 1]}, {"filter": "mlp", "value": [1, 0]}, {"value": 0.4}]
PIECES = {
    "slices": [
        {"sources": [{"model": "one", "layer_range": [0, 2]}]},
        {"sources": [{"model": "two", "layer_range": [1, 2], "parameters": {"scale": 0.5}}]},
    ]
}
SPECS: dict[str, dict[str, Any]] = {
    "linear": {"merge_method": "linear", **BOTH},
    "linear, summed": {"merge_method": "linear", "parameters": {"normalize": False}, **BOTH},
    "slerp": {"merge_method": "slerp", **BASE, "models": [{"model": "one"}], "parameters": {"t": T}},
    "task_arithmetic": {"merge_method": "task_arithmetic", **BASE, "parameters": {"lambda": 0.8}, **BOTH},
    "ties": {"merge_method": "ties", **BASE, "parameters": {"int8_mask": True}, **SPREAD},
    "ties, rescaled": {"merge_method": "ties", **BASE, "parameters": {"rescale": True, "normalize": False}, **SPREAD},
    "passthrough": {"merge_method": "passthrough", **PIECES},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """By dtype, by name: a base and two that differ from it."""
    root = tmp_path_factory.mktemp("parents")
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        place = root / str(dtype)
        place.mkdir()
        raw = build_tiny_llm(place / "raw")
        base = child_of(raw, place / "base", 1, 0.1, dtype)
        found[str(dtype)] = {
            "base": base,
            **{name: child_of(base, place / name, seed, 0.05, dtype) for seed, name in ((2, "one"), (3, "two"))},
        }
    return found


@pytest.mark.parametrize("dtype", ["torch.float32", "torch.bfloat16"])
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.filterwarnings("default")
def test_a_merge_equals_mergekits_to_the_last_bit(
    name: str, dtype: str, models: dict[str, dict[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "argsort", partial(torch.argsort, stable=True))
    spec, folders = SPECS[name], models[dtype]
    text = yaml.safe_dump(spec)
    for reference, folder in folders.items():
        for key in ("model", "base_model"):
            text = text.replace(f"{key}: {reference}\n", f"{key}: {folder}\n")
    options = MergeOptions(write_model_card=False, copy_tokenizer=False, quiet=True)
    run_merge(MergeConfiguration.model_validate(yaml.safe_load(text)), str(tmp_path / "theirs"), options)
    merged(folders, tmp_path / "ours", **spec)
    ours, theirs = tensors_of(tmp_path / "ours"), tensors_of(tmp_path / "theirs")
    assert set(ours) == set(theirs)
    for tensor, expected in theirs.items():
        assert ours[tensor].dtype == expected.dtype
        assert torch.equal(ours[tensor], expected), tensor
