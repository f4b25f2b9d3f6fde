"""What steps will make and how long they will take, as far as that is known before they begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from jobspecs.estimate import Duration
from jobspecs.frozen import FrozenModel
from jobspecs.pipelines.document import Pipeline
from jobspecs.profile import DatasetProfile
from scheduling.estimates.estimating import TYPICAL_WEIGHTS_BYTES
from storage.repositories.jobs.pipelines import NewStep


@dataclass(frozen=True)
class Expected:
    """What a step will make: enough to check and to estimate what reads it. `model`: what its training begins with."""

    model: FrozenModel | None = None
    weights_bytes: int = TYPICAL_WEIGHTS_BYTES
    profile: DatasetProfile | None = None


def durations(pipeline: Pipeline, steps: Mapping[str, NewStep]) -> tuple[Duration, Duration]:
    """Of the longest way through the pipeline, and of all its jobs together."""
    made = {name: step.inputs.frozen.estimate for name, step in steps.items()}
    own = {name: one.duration for name, one in made.items() if one is not None}
    basis: Literal["measured", "assumed"] = (
        "measured" if {one.basis for one in own.values()} == {"measured"} else "assumed"
    )
    ends: dict[str, tuple[float, float]] = {}
    for step in pipeline.in_order():
        took = own.get(step.name)
        before = [ends[name] for name in step.needs]
        ends[step.name] = (
            max((low_s for low_s, _ in before), default=0.0) + (took.low_s if took is not None else 0.0),
            max((high_s for _, high_s in before), default=0.0) + (took.high_s if took is not None else 0.0),
        )
    longest = Duration(
        low_s=max(low_s for low_s, _ in ends.values()), high_s=max(high_s for _, high_s in ends.values()), basis=basis
    )
    together = Duration(
        low_s=sum(one.low_s for one in own.values()), high_s=sum(one.high_s for one in own.values()), basis=basis
    )
    return longest, together
