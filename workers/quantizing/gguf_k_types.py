"""K-types of GGUF, which the `gguf` package reads and does not write: auto-round's port of ggml's search for scales."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch

Bytes = npt.NDArray[np.uint8]

#: Type -> (bits, whether it has minima beside scales).
_K_TYPES: dict[str, tuple[int, bool]] = {
    "Q2_K": (2, True),
    "Q3_K": (3, False),
    "Q4_K": (4, True),
    "Q5_K": (5, True),
    "Q6_K": (6, False),
}
#: Of a block of Q5_K: fp16 scale and minimum, and 12 bytes of 6-bit ones; then 32 bytes of high bits, 128 of low ones.
_Q5_HEAD, _Q5_HIGH, _SUB_BLOCKS = 16, 32, 8


def quantize_blocks(name: str, blocks: npt.NDArray[np.float32]) -> Bytes:
    """Blocks (N, 256) of fp32 as N packed ones of the type `name`."""
    search = importlib.import_module("auto_round.data_type.gguf")
    packing = importlib.import_module("auto_round.export.export_to_gguf.packing")
    bits, has_minima = _K_TYPES[name]
    weights = torch.from_numpy(np.array(blocks, dtype=np.float32))
    find = search.quant_tensor_gguf_asym_dq if has_minima else search.quant_tensor_gguf_sym_dq
    rounded, scales, minima = find(weights.clone(), bits=bits, scale_dtype=torch.float32)
    # Both functions write into what they are given.
    found = {**scales, **(minima if has_minima else {})}
    packed = np.ascontiguousarray(packing.ggml_quant(weights, name.lower(), device="cpu", **found)).view(np.uint8)
    packed = packed.reshape(len(blocks), -1)
    return _mended(packed, rounded, scales["scale"], minima["wmin"]) if name == "Q5_K" else packed


def _mended(packed: Bytes, rounded: torch.Tensor, scale: torch.Tensor, minimum: torch.Tensor) -> Bytes:
    """auto-round 0.15.1 lets the fifth bit of one weight run into the first of another: normal weights come back with
    an error of 6.0 % in place of 3.6 %."""
    shape = (len(packed), _SUB_BLOCKS, -1)
    steps = scale.reshape(shape)
    levels = torch.where(steps > 0, (rounded.reshape(shape) + minimum.reshape(shape)) / steps, torch.zeros(()))
    values = levels.round().clamp(0, 31).to(torch.uint8).numpy()
    low = (values[:, ::2] & 15) | ((values[:, 1::2] & 15) << 4)
    high = np.bitwise_or.reduce((values >> 4) << np.arange(_SUB_BLOCKS, dtype=np.uint8).reshape(1, -1, 1), axis=1)
    return np.concatenate([packed[:, :_Q5_HEAD], high, low.reshape(len(packed), -1)], axis=1)


@contextmanager
def k_types(between: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Until the end `gguf.quantize` knows the K-types; `between` is called every few rows, and may raise to stop."""
    kinds: list[Any] = [getattr(gguf.quants, name) for name in _K_TYPES]

    def blocks_of(name: str) -> Any:
        def quantized(cls: type, blocks: npt.NDArray[np.float32]) -> Bytes:
            between()
            return quantize_blocks(name, blocks)

        return classmethod(quantized)

    for kind in kinds:
        kind.quantize_blocks = blocks_of(kind.__name__)
    try:
        yield
    finally:
        for kind in kinds:
            del kind.quantize_blocks
