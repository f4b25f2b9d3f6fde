"""How a tensor is computed of others, piece by piece.

Each method looks at whole tensors first where it must, and then makes any stretch of the result's elements by itself:
of the result no more is held than a stretch. Sums run in mergekit's order, and in the dtype in which it computes, so
that results are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import numpy as np
import torch

from workers.merging.plan import Mixture

#: (first, end) of the flattened tensor -> the result's elements there.
Stretch = Callable[[int, int], torch.Tensor]
#: Elements that are computed together: 4 MB in fp32, which a processor's cache holds.
STRETCH = 2**20
#: Cosine beyond which two tensors lie on one line, and norms that count as nothing, as mergekit has them.
_ON_A_LINE, _NO_NORM = 0.9995, 1e-8
_NO_DIVISOR, _NO_SUM = 1e-8, 1e-7


def linear(tensors: Sequence[torch.Tensor], mixture: Mixture) -> Stretch:
    """The weighted mean, or the weighted sum where `normalize` is off; summed in fp32."""
    wide = _wide(tensors[0])
    shares = torch.tensor([[one.settings["weight"] for one in mixture.ingredients]], dtype=wide)
    divisor = shares.sum(dim=1)

    def stretch(first: int, end: int) -> torch.Tensor:
        total = torch.zeros(end - first, dtype=wide)
        for tensor, share in zip(tensors, shares.unbind(1), strict=True):
            total.addcmul_(tensor[first:end], share)
        if mixture.settings["normalize"]:
            total.div_(divisor)
        return total.to(tensors[0].dtype)

    return stretch


def slerp(tensors: Sequence[torch.Tensor], mixture: Mixture) -> Stretch:
    """Along the arc from the base to the other; along the line where the two are nearly parallel."""
    start, goal = tensors[mixture.origin], tensors[1 - mixture.origin]
    wide = _wide(start)
    share = torch.tensor([mixture.settings["t"]], dtype=wide)
    from_start, from_goal = _arc_shares(start, goal, share)

    def stretch(first: int, end: int) -> torch.Tensor:
        made = from_start * start[first:end].to(wide) + from_goal * goal[first:end].to(wide)
        return made.to(start.dtype)

    return stretch


def _arc_shares(start: torch.Tensor, goal: torch.Tensor, share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What each of the two counts; (1,) each."""
    wide = share.dtype
    pieces = list(zip(start.split(STRETCH), goal.split(STRETCH), strict=True))
    norms = [
        torch.linalg.vector_norm(
            torch.stack([torch.linalg.vector_norm(pair[side].to(wide)[None], dim=1) for pair in pieces]), dim=0
        )
        for side in (0, 1)
    ]
    norms = [torch.where(norm > _NO_NORM, norm, 1) for norm in norms]
    cosines = [((a.to(wide) / norms[0]) * (b.to(wide) / norms[1]))[None].sum(dim=1) for a, b in pieces]
    cosine = torch.stack(cosines).sum(dim=0).clamp(-1, 1)
    if bool(cosine.abs() > _ON_A_LINE):
        return 1 - share, share
    angle = torch.acos(cosine)
    return torch.sin((1 - share) * angle) / torch.sin(angle), torch.sin(share * angle) / torch.sin(angle)


def _wide(tensor: torch.Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def of_changes(tensors: Sequence[torch.Tensor], mixture: Mixture, *, elected: bool) -> Stretch:
    """The base and what the others changed, weighted.

    With `density` only their largest changes count; `elected`: only those whose sign is that of all changes together.
    """
    base = tensors[mixture.origin]
    others = [at for at in range(len(tensors)) if at != mixture.origin]
    told = [mixture.ingredients[at].settings for at in others]
    weights = torch.tensor([one["weight"] for one in told], dtype=base.dtype)[:, None]
    rescaled = bool(mixture.settings.get("rescale"))
    kept = [
        Kept.largest(tensors[at], base, float(one.get("density") or 0), rescaled=rescaled) if elected else None
        for at, one in zip(others, told, strict=True)
    ]

    def stretch(first: int, end: int) -> torch.Tensor:
        changes = base.new_empty((len(others), end - first))
        for place, at in enumerate(others):
            change = tensors[at][first:end] - base[first:end]
            keep = kept[place]
            changes[place] = change if keep is None else keep.of(change, first)
        changes.mul_(weights)
        return _added(base[first:end], changes, weights, mixture, elected=elected)

    return stretch


def _added(
    base: torch.Tensor, changes: torch.Tensor, weights: torch.Tensor, mixture: Mixture, *, elected: bool
) -> torch.Tensor:
    """`changes` (models, elements) as one change on top of the base's elements."""
    if elected:
        # A sum of nothing counts as positive.
        upwards = (changes.sum(dim=0) >= 0).to(changes.dtype) * 2 - 1
        agree = changes.sign() == upwards
        total, divisor = (changes * agree).sum(dim=0), (weights * agree).sum(dim=0)
        divisor[divisor == 0] = 1
    else:
        total, divisor = changes.sum(dim=0), weights.sum(dim=0)
        divisor[divisor.abs() < _NO_DIVISOR] = 1
    if mixture.settings["normalize"]:
        total /= divisor
    if mixture.settings["lambda"] != 1:
        total *= mixture.settings["lambda"]
    return (base + total).to(base.dtype)


@dataclass(frozen=True)
class Kept:
    """Which of a tensor's changes count: those larger than `above`, and of those as large the ones up to `last`."""

    above: float
    last: int
    #: What the changes that are left are multiplied by; None: they stay as they are.
    factor: torch.Tensor | None = None

    @classmethod
    def largest(cls, tensor: torch.Tensor, base: torch.Tensor, density: float, *, rescaled: bool) -> Kept | None:
        """So large a share of all changes, one at least; None: all of them. Takes one copy of the tensor in fp32."""
        count = tensor.numel()
        if density >= 1:
            return None
        if density <= 0 or count == 0:
            return cls(float("inf"), -1)
        wanted = max(1, int(density * count))
        sizes = np.empty(count, dtype=np.float32)
        for first in range(0, count, STRETCH):
            sizes[first : first + STRETCH] = _sizes(tensor, base, first)
        sizes.partition(count - wanted)
        above = sizes[count - wanted]
        equal = wanted - int((sizes[count - wanted :] > above).sum())
        del sizes
        found = cls(float(above), _place_of(tensor, base, above, equal))
        return replace(found, factor=found._factor(tensor, base)) if rescaled else found

    def of(self, change: torch.Tensor, first: int) -> torch.Tensor:
        """`change`: elements from `first` on; zero where they don't count."""
        left = change * self._mask(change, first)
        return left if self.factor is None else left * self.factor

    def _mask(self, change: torch.Tensor, first: int) -> torch.Tensor:
        sizes = change.abs().float()
        mask = sizes > self.above
        if first <= self.last:
            mask[: self.last + 1 - first] |= sizes[: self.last + 1 - first] == self.above
        return mask.to(change.dtype)

    def _factor(self, tensor: torch.Tensor, base: torch.Tensor) -> torch.Tensor | None:
        """What makes the sum of sizes what it was."""
        change = tensor - base
        before, after = change.abs().sum(), (change * self._mask(change, 0)).abs().sum()
        return None if before < _NO_SUM or after < _NO_SUM else before / after


def _sizes(tensor: torch.Tensor, base: torch.Tensor, first: int) -> np.ndarray:
    sizes: np.ndarray = (tensor[first : first + STRETCH] - base[first : first + STRETCH]).abs().float().numpy()
    return sizes


def _place_of(tensor: torch.Tensor, base: torch.Tensor, size: np.floating, number: int) -> int:
    """Where the change of that size stands that is so many-th, counted from 1."""
    for first in range(0, tensor.numel(), STRETCH):
        places = np.flatnonzero(_sizes(tensor, base, first) == size)
        if len(places) >= number:
            return first + int(places[number - 1])
        number -= len(places)
    return int(tensor.numel()) - 1


def passthrough(tensors: Sequence[torch.Tensor], mixture: Mixture) -> Stretch:
    """The tensor itself, or `scale` times it."""
    scale = mixture.ingredients[0].settings["scale"]
    return lambda first, end: tensors[0][first:end] if scale is None else tensors[0][first:end] * scale


METHODS_BY_NAME: Mapping[str, Callable[[Sequence[torch.Tensor], Mixture], Stretch]] = MappingProxyType(
    {
        "linear": linear,
        "slerp": slerp,
        "task_arithmetic": partial(of_changes, elected=False),
        "ties": partial(of_changes, elected=True),
        "passthrough": passthrough,
    }
)
