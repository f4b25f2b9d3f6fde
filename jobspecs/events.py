"""What a child says while it works: one JSON object per line. Also the state changes that people watch.

The pair (fence, number) orders a job's events: the fence counts attempts and the number counts within one.
It is the primary key in PostgreSQL, the entry id in the Redis stream, and part of the cursor of a watcher.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

#: Longer log lines are cut, with a mark at the end.
LOG_LINE_CHARS_MAX = 16_384


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class StageEvent(_Event):
    """The job entered a stage: `prepare`, `tokenize`, `train`, `validate`, `baseline`, `save`, `upload` …"""

    type: Literal["stage"] = "stage"
    stage: str


class ProgressEvent(_Event):
    """How far the stage is. `eta_s`: seconds until the whole job is expected to end."""

    type: Literal["progress"] = "progress"
    stage: str
    step: int = Field(ge=0)
    steps_total: int = Field(ge=0)
    epoch: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    #: Training sequences per second.
    sequences_per_s: float | None = None
    eta_s: float | None = None


class MetricEvent(_Event):
    """A named figure, such as `validation/accuracy`, at a training step."""

    type: Literal["metric"] = "metric"
    name: str
    value: float
    step: int | None = None


class LogEvent(_Event):
    """One line of the log. Control characters are already escaped."""

    type: Literal["log"] = "log"
    level: Literal["debug", "info", "warning", "error"] = "info"
    message: str = Field(max_length=LOG_LINE_CHARS_MAX)


class CheckpointEvent(_Event):
    """A complete checkpoint lies in `directory`, relative to the attempt's work directory; its manifest came last."""

    type: Literal["checkpoint"] = "checkpoint"
    step: int = Field(ge=0)
    directory: str


class FailureEvent(_Event):
    """The child can't go on. `reason` is one of `jobspecs.lifecycle.Reason`."""

    type: Literal["failure"] = "failure"
    reason: str
    message: str


ChildEvent = Annotated[
    StageEvent | ProgressEvent | MetricEvent | LogEvent | CheckpointEvent | FailureEvent, Field(discriminator="type")
]
CHILD_EVENT: TypeAdapter[ChildEvent] = TypeAdapter(ChildEvent)


class RecordedEvent(BaseModel):
    """A child's event with its place in the job's history."""

    model_config = ConfigDict(frozen=True)

    fence: int
    number: int
    at: datetime
    event: ChildEvent


class StateChange(BaseModel):
    """One transition of a job. `seq` counts from 1 without gaps."""

    model_config = ConfigDict(frozen=True)

    type: Literal["state"] = "state"
    seq: int
    at: datetime
    source: str | None
    state: str
    reason: str | None = None
    message: str | None = None
    fence: int
    actor: str
