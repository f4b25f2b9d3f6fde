"""GPTQ (arXiv:2210.17323), AWQ (arXiv:2306.00978), round-to-nearest and fp8, by llmcompressor.

Saved as compressed-tensors, which transformers and vLLM read.

The library and what it prints are the child's alone. The embeddings and the output head stay in full precision.
"""

from __future__ import annotations

import importlib
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from jobspecs.kinds.quantize import Quantize
from jobspecs.lifecycle import Reason
from workers.local_models.base_model import load_causal_lm
from workers.local_models.gguf_model import write_language_model
from workers.quantizing.interface import Order, Written
from workers.quantizing.sizes import stored, weights
from workers.run.context import RunFailed

_HEAD = ["lm_head"]
_TARGETS = ["Linear"]


def write(order: Order) -> Written:
    """A folder with packed weights. Raises RunFailed(unsatisfiable) where groups don't divide a layer's columns."""
    spec = order.spec
    loaded = load_causal_lm(order.folder)
    if spec.facts.grouped:
        _check_groups(loaded.model, spec.weights_per_scale)
    library = importlib.import_module("llmcompressor")
    _quiet()
    with _unpinned(), warnings.catch_warnings():
        # That layers are offloaded, which on a CPU they are to where they were.
        warnings.simplefilter("ignore", UserWarning)
        library.oneshot(model=loaded.model, recipe=_recipe(spec), tokenizer=loaded.tokenizer, **_calibration(order))
        order.between()
        write_language_model(order.output, loaded.model, loaded.tokenizer)
    (order.output / "recipe.yaml").unlink(missing_ok=True)
    bits, stored_as = stored(order.output)
    return Written(bits, weights(order.folder), stored_as, libraries=("llmcompressor", "compressed-tensors"))


def load(folder: Path) -> PreTrainedModel:
    """As the embedded engine loads it."""
    return load_causal_lm(folder).model


def _check_groups(model: nn.Module, size: int) -> None:
    columns = {
        layer.in_features
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and not name.endswith(tuple(_HEAD))
    }
    odd = sorted(count for count in columns if count % size)
    if odd:
        common = math.gcd(*columns)
        fitting = [str(group) for group in (128, 96, 64, 48, 32, 16) if common % group == 0]
        instead = f"Write group_size: {' or '.join(fitting)}." if fitting else "Choose gguf: its blocks fit any model."
        raise RunFailed(
            Reason.unsatisfiable,
            f"groups of {size} weights don't divide layers with {' and '.join(map(str, odd))} columns. {instead}",
        )


def _recipe(spec: Quantize) -> list[Any]:
    modifiers = importlib.import_module("llmcompressor.modifiers.quantization")
    if spec.family == "fp8":
        # Weights per channel, activations per token as they come: no text need be looked at.
        return [modifiers.QuantizationModifier(targets=_TARGETS, scheme="FP8_DYNAMIC", ignore=_HEAD)]
    arguments = importlib.import_module("compressed_tensors.quantization")
    weight = arguments.QuantizationArgs(
        num_bits=spec.weight_bits,
        type="int",
        strategy="group",
        group_size=spec.weights_per_scale,
        symmetric=spec.is_symmetric,
    )
    groups = {"group_0": arguments.QuantizationScheme(targets=_TARGETS, weights=weight)}
    if spec.family == "gptq":
        return [modifiers.GPTQModifier(config_groups=groups, ignore=_HEAD)]
    quantized = modifiers.QuantizationModifier(config_groups=groups, ignore=_HEAD)
    if spec.family == "awq":
        return [importlib.import_module("llmcompressor.modifiers.transform.awq").AWQModifier(), quantized]
    return [quantized]


def _calibration(order: Order) -> dict[str, Any]:
    if not order.calibration:
        return {}
    rows = importlib.import_module("datasets").Dataset.from_dict(
        {
            "input_ids": [ids.tolist() for ids in order.calibration],
            "attention_mask": [[1] * len(ids) for ids in order.calibration],
        }
    )
    longest = max(len(ids) for ids in order.calibration)
    return {"dataset": rows, "num_calibration_samples": len(rows), "max_seq_length": longest}


@contextmanager
def _unpinned() -> Iterator[None]:
    """Without a GPU: llmcompressor 0.14 pins what it keeps between layers, which needs one; no setting turns it off."""
    if torch.cuda.is_available():
        yield
        return
    cache: Any = importlib.import_module("llmcompressor.pipelines.cache").IntermediatesCache
    pins = cache.pin_memory
    cache.pin_memory = lambda self, *_, **__: None
    try:
        yield
    finally:
        cache.pin_memory = pins


def _quiet() -> None:
    """Its log goes to the job's, warnings and errors only, and its report of settings nowhere."""
    loguru = importlib.import_module("loguru").logger
    loguru.remove()
    loguru.add(sys.stderr, level="WARNING", format="{level} {name}: {message}")
