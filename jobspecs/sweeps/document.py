"""The document of a sweep, and what it means once it was read (`jobspecs.sweeps.meaning`). Such as

kind: sweep
name: better-rates
spec: {kind: train-classifier, name: newsticker-quality, model: minilm-l6@1, …}
over:
  training.learning_rate: {low: 1e-5, high: 1e-3, scale: log}
  training.batch_size: [16, 32, 64]
method: tpe
trials: 20
halving: {first_steps: 50}
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from jobspecs.kinds.base import Duration, Section
from jobspecs.references import Name

KIND = "sweep"
#: Trials, fields that are searched, and values of one field.
TRIALS_MAX, FIELDS_MAX, VALUES_MAX = 1000, 20, 1000
#: Jobs of one sweep at once.
AT_ONCE_MAX = 100

#: A field of a spec, with dots between its sections.
FIELD_PATTERN = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*){0,7}"
#: No field needs greater numbers, and a difference of two of them stays one.
_NUMBER_MAX = 10**18
#: Steps of a range: so many can be counted exactly.
_STEPS_OF_RANGE_MAX = 10**12
_BOUNDS: Mapping[str, Any] = MappingProxyType({"strict": True, "ge": -_NUMBER_MAX, "le": _NUMBER_MAX})
Number = Annotated[int, Field(**_BOUNDS)] | Annotated[float, Field(**_BOUNDS)]


class Range(Section):
    """Numbers from `low` to `high`; whole ones where both are."""

    low: Number
    high: Number
    step: Number | None = Field(default=None, gt=0, description="a grid's; without it a grid takes whole numbers only")
    scale: Literal["linear", "log"] = Field(default="linear", description="log: each power of ten has the same chance")

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be less than high")
        if self.scale == "log" and self.low <= 0:
            raise ValueError("on a log scale low must be greater than 0")
        if self.scale == "log" and self.step is not None:
            raise ValueError("step is for a linear scale; name the values instead: [1e-5, 3e-5, 1e-4]")
        if self.whole and self.step is not None and not isinstance(self.step, int):
            raise ValueError("low and high are whole numbers, so step is one too; write low as 1.0 otherwise")
        # Multiplied, not divided: a quotient by a tiny step is infinite.
        if self.step is not None and self.high - self.low > self.step * _STEPS_OF_RANGE_MAX:
            raise ValueError(f"step is too small: the range has more than {_STEPS_OF_RANGE_MAX:,} steps")
        return self

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


class Halving(Section):
    """Successive halving (arXiv:1810.05934): at rungs of `first_steps`, then `factor` times as many steps each, a trial
    goes on that is among the best 1/`factor` that came so far by its loss on rows held out; others stop, and go on
    when they turn out to be among them.
    """

    first_steps: int = Field(ge=1, le=10**7, description="steps of the first rung")
    factor: int = Field(default=3, ge=2, le=10)

    def rungs(self) -> tuple[int, ...]:
        """Steps of each rung, rising."""
        found = [self.first_steps]
        while len(found) < _RUNGS_MAX and found[-1] * self.factor <= _STEPS_MAX:
            found.append(found[-1] * self.factor)
        return tuple(found)


_RUNGS_MAX, _STEPS_MAX = 12, 10**7


class Confirmation(Section):
    """Rows that no trial sees, drawn before all others. They judge the winner, which is trained anew."""

    fraction: float = Field(default=0.2, gt=0, lt=1)
    seed: int = Field(default=42, ge=0, lt=2**32)


class SweepDocument(Section):
    """As it is written."""

    kind: Literal["sweep"]
    name: Name
    spec: dict[str, Any] = Field(description="a job spec; its fields in `over` may be left out")
    over: dict[str, list[Any] | Range] = Field(
        min_length=1,
        max_length=FIELDS_MAX,
        description="dotted field of the spec -> its values, whole sections among them, or a range of numbers",
    )
    method: Literal["grid", "random", "tpe"] = Field(
        default="grid", description="grid: every combination. tpe: where earlier trials were good (arXiv:2304.11127)"
    )
    trials: int | None = Field(default=None, ge=1, le=TRIALS_MAX, description="of random and tpe")
    metric: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="the figure that decides, such as macro_f1; what judges such a job when absent",
    )
    goal: Literal["max", "min"] | None = Field(default=None, description="min for losses when absent, else max")
    seed: int = Field(default=42, ge=0, lt=2**32, description="of random and tpe")
    at_once: int = Field(default=4, ge=1, le=AT_ONCE_MAX, description="trials that run or wait for a place, at most")
    max_time: Duration | None = Field(
        default=None, description="then no trial goes on, and the best so far is confirmed"
    )
    halving: Halving | None = None
    confirm: bool | Confirmation = Field(
        default=True,
        description="judge the winner by rows that no trial saw: those of the spec's `test`, or such as are drawn",
    )
