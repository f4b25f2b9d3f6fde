"""What every job spec has: a name, a priority, and the resources it asks for."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from jobspecs.references import Name

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(s|m|h|d)$")
_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: Any) -> Any:
    """`90s`, `30m`, `2h`, `1d` or a number of seconds. Raises ValueError for other text."""
    if isinstance(value, str):
        match = _DURATION.match(value.strip())
        if match is None:
            raise ValueError(f"{value!r} is not a duration: write 90s, 30m, 2h or 1d")
        return timedelta(seconds=float(match[1]) * _UNIT_S[match[2]])
    return value


def _in_seconds(value: timedelta) -> str:
    return f"{value.total_seconds():g}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration, json_schema_input_type=str),
    PlainSerializer(_in_seconds, return_type=str),
    Field(description="a number with a unit: 90s, 30m, 2h or 1d"),
]


class Section(BaseModel):
    """A part of a spec. Unknown fields are refused: a typo must not silently train the wrong thing."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Resources(Section):
    """What the job needs of a host."""

    gpus: int = Field(default=0, ge=0, le=64, description="whole GPUs; 0 trains on the CPU")
    gpu_memory_gib: Literal["auto"] | Annotated[float, Field(gt=0, le=4096)] = Field(
        default="auto", description="memory per GPU in GiB"
    )
    memory_gib: Literal["auto"] | Annotated[float, Field(gt=0, le=16384)] = Field(
        default="auto", description="main memory in GiB"
    )
    max_runtime: Duration = Field(default=timedelta(hours=24), gt=timedelta(0), le=timedelta(days=30))


class SpecBase(Section):
    """Fields that every kind shares."""

    name: Name = Field(description="the job's name, and the name of the model it registers")
    priority: int = Field(
        default=0, ge=-100, le=100, description="higher goes first; equal ones in order of submission"
    )
    resources: Resources = Resources()
