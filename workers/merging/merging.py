"""Writes the weights of a merged model, tensor by tensor."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from jobspecs.kinds.merge import Merge
from jobspecs.lifecycle import Reason
from workers.local_models.base_model import invalid_model
from workers.merging.methods import METHODS_BY_NAME, STRETCH
from workers.merging.plan import MergePlan, Mixture
from workers.merging.weights import ModelWeights, TensorShape, WeightsWriter
from workers.run.context import RunFailed

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def written_shape(spec: Merge, mixture: Mixture) -> TensorShape:
    """The tensor as the result has it. What is no floating-point number is copied as it is."""
    wanted = spec.out_dtype or spec.dtype
    if wanted is None or not mixture.shape.dtype.is_floating_point:
        return mixture.shape
    return replace(mixture.shape, dtype=_DTYPES[wanted])


def write_merged(
    spec: Merge, plan: MergePlan, weights: Mapping[str, ModelWeights], folder: Path, after_each: Callable[[int], None]
) -> int:
    """Returns the bytes of the tensors. `weights`: reference -> model; `after_each` takes how many tensors are written.

    Raises RunFailed (disk_full before anything is written, or invalid_model where a weight is no finite number), and
    OSError where the disk fills up meanwhile.
    """
    shapes = [(mixture.name, written_shape(spec, mixture)) for mixture in plan.mixtures]
    total = sum(shape.bytes for _, shape in shapes)
    if (free := shutil.disk_usage(folder).free) < total:
        raise RunFailed(Reason.disk_full, f"the merged model has {total:,} bytes, and the disk has {free:,} left.")
    with WeightsWriter(folder, shapes) as writer:
        for number, (mixture, (_, shape)) in enumerate(zip(plan.mixtures, shapes, strict=True), start=1):
            writer.write(mixture.name, _pieces(spec, mixture, weights, shape.dtype))
            after_each(number)
    return total


def _pieces(
    spec: Merge, mixture: Mixture, weights: Mapping[str, ModelWeights], dtype: torch.dtype
) -> Iterator[torch.Tensor]:
    tensors = [weights[one.reference].read(one.name).reshape(-1) for one in mixture.ingredients]
    if not dtype.is_floating_point:
        if not all(torch.equal(tensors[0], other) for other in tensors[1:]):
            raise invalid_model(f"{mixture.name} holds whole numbers, which differ between the models.")
        yield tensors[0]
        return
    computed = _DTYPES[spec.dtype] if spec.dtype is not None else mixture.shape.dtype
    stretch = METHODS_BY_NAME[spec.method]([tensor.to(computed) for tensor in tensors], mixture)
    for first in range(0, tensors[0].numel(), STRETCH):
        made = stretch(first, min(first + STRETCH, tensors[0].numel())).to(dtype)
        low, high = torch.aminmax(made)
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise invalid_model(_not_finite(mixture, tensors))
        yield made


def _not_finite(mixture: Mixture, tensors: list[torch.Tensor]) -> str:
    for one, tensor in zip(mixture.ingredients, tensors, strict=True):
        if not bool(torch.isfinite(tensor).all()):
            return f"{one.reference}: {one.name} has weights that are no finite numbers; nothing sound is made of them."
    return (
        f"{mixture.name} comes out with weights that are no finite numbers: the parameters are too large for its dtype."
    )
