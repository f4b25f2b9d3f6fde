"""What a job will take, told before it is queued, and what it took."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Estimate(BaseModel):
    model_config = ConfigDict(frozen=True)


class MemoryParts(_Estimate):
    """Peak memory in bytes, by what takes it."""

    weights: int = Field(ge=0)
    gradients: int = Field(default=0, ge=0)
    #: The optimizer's moments.
    optimizer: int = Field(default=0, ge=0)
    #: What the backward pass needs of the largest micro-batch, and its own intermediate results.
    activations: int = Field(default=0, ge=0)
    #: Logits and their gradients.
    lm_head: int = Field(default=0, ge=0)
    #: Libraries at work, the data set, the allocator's slack.
    runtime: int = Field(default=0, ge=0)

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.lm_head + self.runtime


class Duration(_Estimate):
    """Seconds from the job's start to its end, as a band that it probably falls into."""

    low_s: float
    high_s: float
    #: `measured`: from earlier jobs of this kind on this platform. `assumed`: from usual speeds of such machines.
    basis: Literal["measured", "assumed"]


class Estimate(_Estimate):
    """A job's size, its memory by part, and how long it may take."""

    kind: str
    parameters: int
    trainable_parameters: int
    #: Of the host, in bytes.
    main_memory: MemoryParts
    #: Of the GPU; None when the job asks for none.
    gpu_memory: MemoryParts | None = None
    #: Tokens that pass through the model in all epochs, judging included.
    tokens: int
    #: Floating-point operations of the whole job.
    operations: float
    duration: Duration
    #: What was not known, and what was taken instead.
    assumptions: tuple[str, ...] = ()


class MeasuredMemory(_Estimate):
    """Estimate against measured, in a finished job's report as `memory`."""

    estimated_bytes: int | None
    #: None where the kernel does not tell.
    measured_bytes: int | None
    estimated_gpu_bytes: int | None = None
    measured_gpu_bytes: int | None = None


class MeasuredTime(_Estimate):
    """The same of time, as `duration`: of the attempt that finished the job."""

    estimated_low_s: float | None
    estimated_high_s: float | None
    measured_s: float
    #: The attempt went on from an earlier one's checkpoint, so it says little about the next job.
    resumed: bool = False
    operations_per_s: float | None = None
