"""LoRA adapters beside a model whose weights all of them share: each row of a step has its own, or none.

The model's products are computed as without adapters, for all rows at once. What an adapter adds, two narrow products
for each layer that it changes, is computed row by row: so no bit of an answer depends on what its neighbours chose.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from workers.local_models.base_model import first_line, invalid_model, read_json

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
#: The name of a tensor in a file of peft's: the layer that it changes, and which of the two matrices it is.
_TENSOR = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")
#: Names of layers as patterns of ranks and factors may give them: expressions of others are not run.
_PLAIN = re.compile(r"[\w.]+")
_ALONE = "Deploy it by itself: then it is merged into its base."


class Change(NamedTuple):
    """What is added to a layer's output: `inputs @ down @ up`; (in, rank) and (rank, out), scaled."""

    down: torch.Tensor
    up: torch.Tensor


@dataclass(frozen=True, eq=False)
class Lora:
    """The weights of one adapter. `digest`: what tells it from others."""

    digest: bytes
    changes: Mapping[str, Change]

    @classmethod
    def load(cls, folder: Path, model: nn.Module, digest: bytes, like: torch.Tensor) -> Lora:
        """In peft's format, for the layers of `model`; on the device and in the type of `like`.

        Raises RunFailed(invalid_model) for what does not fit, or changes more than products of layers.
        """
        config = read_json(folder / ADAPTER_CONFIG, required=True)
        _check(config)
        layers = {name: layer for name, layer in model.named_modules() if type(layer) is nn.Linear}
        try:
            tensors = load_file(folder / ADAPTER_WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise invalid_model(f"{ADAPTER_WEIGHTS} of the adapter can't be read: {first_line(error)}") from error
        sides: dict[str, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            found = _TENSOR.fullmatch(name)
            if found is None or found["layer"] not in layers or ".experts." in found["layer"]:
                raise invalid_model(f"the adapter changes {name}, which can't be done for each answer. {_ALONE}")
            sides.setdefault(found["layer"], {})[found["side"]] = tensor
        changes = {name: _change(name, layers[name], pair, config, like) for name, pair in sides.items()}
        return cls(digest, changes)

    @property
    def bytes_total(self) -> int:
        return sum(part.nbytes for change in self.changes.values() for part in change)


class LoraLayers:
    """The layers of one model, which add what the adapters of the present rows say. For one thread at a time."""

    def __init__(self, model: nn.Module) -> None:
        self._model, self._prepared = model, False
        self._rows: Sequence[Lora | None] = ()

    def prepare(self) -> None:
        """Once, before the first adapter is used: a model that has none pays nothing."""
        if self._prepared:
            return
        self._prepared = True
        for name, layer in self._model.named_modules():
            if type(layer) is nn.Linear:
                layer.forward = partial(self._forward, name, layer.forward)

    @contextmanager
    def of_rows(self, rows: Sequence[Lora | None]) -> Iterator[None]:
        """Within, the model's rows have these adapters; rows behind them none."""
        self._rows = rows if any(row is not None for row in rows) else ()
        try:
            yield
        finally:
            self._rows = ()

    def _forward(self, name: str, plain: Any, inputs: torch.Tensor) -> torch.Tensor:
        """inputs (rows, tokens, in)."""
        output: torch.Tensor = plain(inputs)
        for row, adapter in enumerate(self._rows):
            if adapter is not None and (change := adapter.changes.get(name)) is not None:
                output[row] += inputs[row] @ change.down @ change.up
        return output


def _check(config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise invalid_model("only LoRA adapters can be served.")
    for field, plain in (("use_dora", False), ("bias", "none"), ("modules_to_save", None), ("fan_in_fan_out", False)):
        if config.get(field) not in (plain, None, []):
            why = f"the adapter says {field}: {json.dumps(config[field])}, which changes more than can be added."
            raise invalid_model(f"{why} {_ALONE}")


def _change(
    name: str, layer: nn.Linear, pair: Mapping[str, torch.Tensor], config: Mapping[str, Any], like: torch.Tensor
) -> Change:
    if pair.keys() != {"A", "B"}:
        raise invalid_model(f"the adapter has one of the two matrices of {name} only.")
    down, up = pair["A"].to(like).t(), pair["B"].to(like).t()
    if (down.shape[0], up.shape[1]) != (layer.in_features, layer.out_features) or down.shape[1] != up.shape[0]:
        raise invalid_model(f"the adapter does not fit its base: {name} has other sizes there.")
    try:
        alpha = float(_said_of(name, config.get("alpha_pattern") or {}, config["lora_alpha"]))
    except (KeyError, TypeError, ValueError) as error:
        raise invalid_model(f"{ADAPTER_CONFIG} does not tell lora_alpha of {name}.") from error
    rank = down.shape[1]
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return Change(down.contiguous(), (up * scale).contiguous())


def _said_of(layer: str, patterns: Mapping[str, Any], otherwise: Any) -> Any:
    """As peft reads patterns: the first that is the layer's name, or its end."""
    for pattern, value in patterns.items():
        if not _PLAIN.fullmatch(pattern):
            raise invalid_model(f"the adapter's alpha_pattern {pattern[:80]!r} is no layer's name. {_ALONE}")
        if layer == pattern or layer.endswith(f".{pattern}"):
            return value
    return otherwise
