"""Sizes of models in safetensors."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from safetensors import safe_open

#: Bytes of an element by safetensors' names of types; those of 8 bits are all others.
_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}


def stored(folder: Path) -> tuple[int, dict[str, int]]:
    """Bits of all tensors in the folder's files, scales included, and type -> number of tensors stored so."""
    tensors = _tensors(folder)
    bits = sum(8 * elements * _BYTES.get(kind, 1) for elements, kind in tensors)
    return bits, dict(sorted(Counter(kind for _, kind in tensors).items()))


def weights(folder: Path) -> int:
    """How many weights the folder's files hold; tied ones are there once."""
    return sum(elements for elements, _ in _tensors(folder))


def _tensors(folder: Path) -> list[tuple[int, str]]:
    """Elements and type of each."""
    found = []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118  it is no mapping
                part = opened.get_slice(name)
                found.append((math.prod(part.get_shape()), str(part.get_dtype())))
    return found
