"""An estimate from a spec, the shapes of its models, what is known of its data, and how fast earlier jobs were."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobspecs.estimate import Estimate, MemoryParts
from jobspecs.kinds.base import SpecBase
from scheduling.estimates.data import DataFacts
from scheduling.estimates.durations import duration_of
from scheduling.estimates.kinds import work_of
from scheduling.estimates.shapes import ModelShape, typical_shape
from scheduling.estimates.work import Work

#: What a job needs beside the parts, measured in MB: tokenizer and texts 19, kernels' buffers 20 to 36, and 31 of pages
#: that it shares with the process that it is forked from until it writes to them.
RUNTIME_BYTES = 70 * 2**20
#: While a model is loaded its weights are there twice, as read and as used: more than scoring needs afterwards.
LOADING_FACTOR = 2
#: What a host sets aside beyond the estimate, which is right within 15 %.
ADMISSION_FACTOR = 1.2
#: The process that all jobs of a host are forked from, counted with each because it may be the only one.
LIBRARIES_BYTES = 700 * 2**20
#: A twelfth of the smallest job at most; the estimates are not that exact.
ADMISSION_STEP_BYTES = 64 * 2**20
#: Blocks that torch's GPU allocator holds and can't give to the next request.
GPU_SLACK_SHARE = 0.10
#: A GPU's context and its libraries' workspaces.
GPU_RUNTIME_BYTES = 900 * 2**20
#: A GGUF counts as so many times its size. SmolLM2-135M in Q4_1 (98 MB) was converted in 1.6 GB, libraries included.
GGUF_EXPANSION = 3
#: The weights of BERT base, taken when nothing is known of a model.
TYPICAL_WEIGHTS_BYTES = 440_000_000


@dataclass(frozen=True)
class KnownModel:
    """A model of the spec: its shape where its configuration tells it, and the bytes of its stored weights."""

    shape: ModelShape | None
    weights_bytes: int | None


def estimate(
    spec: SpecBase,
    models: Mapping[str, KnownModel],
    data: DataFacts,
    speeds: Sequence[float] = (),
    other_speeds: Sequence[float] = (),
) -> Estimate:
    """`models`: role -> model. `speeds`: operations per second of earlier jobs of this kind and model; `other_speeds`:
    of this kind on other models.
    """
    shapes = {
        role: model.shape or typical_shape(model.weights_bytes or TYPICAL_WEIGHTS_BYTES)
        for role, model in models.items()
    }
    work = work_of(spec, shapes, data)
    gpus = spec.resources.gpus
    return Estimate(
        kind=spec.kind,
        parameters=work.parameters,
        trainable_parameters=work.trainable,
        main_memory=_beside_gpu(work) if gpus else _on_cpu(work),
        gpu_memory=_with_runtime(work.parts, GPU_RUNTIME_BYTES, GPU_SLACK_SHARE) if gpus else None,
        tokens=work.tokens,
        operations=work.operations,
        duration=duration_of(work.operations, gpus, speeds, other_speeds),
        assumptions=tuple(_assumptions(models, data, of_others=bool(other_speeds and not speeds))),
    )


def admission_bytes(made: Estimate) -> int:
    """Main memory that a host must have free to take the job, in whole steps: jobs of one size wait as one group."""
    needed = int(ADMISSION_FACTOR * made.main_memory.total) + LIBRARIES_BYTES
    return math.ceil(needed / ADMISSION_STEP_BYTES) * ADMISSION_STEP_BYTES


def _on_cpu(work: Work) -> MemoryParts:
    """The largest of three peaks, which come one after the other: loading, training, judging."""
    runtime_bytes = RUNTIME_BYTES + work.imported_bytes
    made = _with_runtime(work.parts, runtime_bytes, work.slack_share)
    others = max(LOADING_FACTOR * work.parts.weights, work.judging_bytes + runtime_bytes)
    return made.model_copy(update={"runtime": made.runtime + max(0, others - made.total)})


def _with_runtime(parts: MemoryParts, runtime_bytes: int, slack_share: float) -> MemoryParts:
    slack = slack_share * (parts.activations + parts.lm_head)
    return parts.model_copy(update={"runtime": int(runtime_bytes + slack)})


def _beside_gpu(work: Work) -> MemoryParts:
    """The weights pass through main memory on their way to the GPU."""
    return MemoryParts(weights=work.parts.weights, runtime=RUNTIME_BYTES + work.imported_bytes)


def _assumptions(models: Mapping[str, KnownModel], data: DataFacts, *, of_others: bool) -> list[str]:
    found = [
        f"The shape of the model in the role {role!r} is not known; a usual one of its size was taken."
        for role, model in sorted(models.items())
        if model.shape is None
    ]
    if not data.counted:
        found.append("The texts' tokens were estimated from their characters.")
    if of_others:
        found.append("No job of this kind has finished here on this model; the speed is that of others.")
    return found
