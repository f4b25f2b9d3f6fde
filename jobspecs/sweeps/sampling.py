"""Points drawn by chance. The same seed, space and number give the same point, whatever was asked before."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any

from jobspecs.sweeps.space import Dimension, point, points

#: Spaces up to this size are drawn from without repetition.
_COUNTED_MAX = 10**12


def drawn_point(dimensions: Sequence[Dimension], seed: int, number: int, trials: int) -> dict[str, Any]:
    """The point of trial `number` of `trials`, counted from 1; different ones where the space is counted."""
    total = points(dimensions)
    if total is not None and total <= _COUNTED_MAX:
        chosen = random.Random(seed).sample(range(total), min(trials, total))  # a search, no secret
        return point(dimensions, chosen[number - 1])
    return {dimension.field: dimension.at(_share(seed, number, dimension.field)) for dimension in dimensions}


def _share(seed: int, number: int, field: str) -> float:
    """From 0 to 1, by the sha256 of its arguments: no library may draw it in another way some day."""
    digest = hashlib.sha256(f"{seed} {number} {field}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
