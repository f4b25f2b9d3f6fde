"""Tiny models whose answers are peaked, so that a fault shows, and what can be wrong with what is made of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.language_models import build_tiny_llm


def build_peaked_llm(folder: Path, seed: int = 3, *, tied: bool = True) -> Path:
    """A Llama of two layers with large weights and rotary embeddings of another base than 10,000."""
    build_tiny_llm(folder)
    # llama.cpp loads no tokenizer without merges.
    document = json.loads((folder / "tokenizer.json").read_bytes())
    words = document["model"]["vocab"]
    words["in"] = len(words)
    change_json(folder / "tokenizer.json", model={**document["model"], "vocab": words, "merges": [["i", "n"]]})
    generator = torch.Generator().manual_seed(seed)

    def shape(name: str, one: torch.Tensor) -> tuple[int, ...]:
        return (len(words), *one.shape[1:]) if name.endswith(("embed_tokens.weight", "lm_head.weight")) else one.shape

    def drawn(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        made = {
            name: torch.randn(shape(name, one), generator=generator) * 0.2 if one.dim() > 1 else one
            for name, one in sorted(weights.items())
        }
        if tied:
            made.pop("lm_head.weight", None)
        return made

    change_weights(folder, drawn)
    rope = {"rope_theta": 500.0, "rope_type": "default"}
    change_json(folder / "config.json", rope_parameters=rope, tie_word_embeddings=tied, vocab_size=len(words))
    return folder


def copied(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    file = folder / "model.safetensors"
    made = change(load_file(file))
    save_file({name: one.contiguous() for name, one in made.items()}, file, metadata={"format": "pt"})


def change_json(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **fields}), encoding="utf-8")
