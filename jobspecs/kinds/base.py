"""What every job spec has: a name, a priority, the resources it asks for, and what it refers to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from jobspecs.problems import Problem
from jobspecs.profile import DatasetProfile
from jobspecs.references import Name

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(s|m|h|d)$")
_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: Any) -> Any:
    """`90s`, `30m`, `2h`, `1d` or a number of seconds. Raises ValueError for other text."""
    if isinstance(value, str):
        match = _DURATION.match(value.strip())
        if match is None:
            raise ValueError(f"{value!r} is not a duration: write 90s, 30m, 2h or 1d")
        try:
            return timedelta(seconds=float(match[1]) * _UNIT_S[match[2]])
        except OverflowError:
            raise ValueError(f"{value[:40]!r} is longer than any duration") from None
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


#: The role of the model that a job starts from; a kind may name more models in roles of its own.
BASE_ROLE = "model"
#: An adapter's base is fetched beside it, in the adapter's role with this suffix.
ADAPTER_BASE_SUFFIX = ".base"


class SpecBase(Section):
    """Fields that every kind shares, and what the platform asks of every kind."""

    #: What the job leaves behind: a model version or a data set version, both named `name`.
    RESULT: ClassVar[Literal["model", "dataset"]] = "model"
    #: Whether the kind reads GGUF files as well; the field `file` then names one of a repository. Others need
    #: safetensors.
    READS_GGUF: ClassVar[bool] = False

    kind: str
    name: Name = Field(description="the job's name, and the name of the model it registers")
    priority: int = Field(
        default=0,
        ge=-100,
        le=100,
        description="orders your own jobs: higher goes first, equal ones in order of submission",
    )
    resources: Resources = Resources()

    def dataset_reference(self) -> str | None:
        """The data set that the job reads, if any."""
        reference: str | None = getattr(self, "dataset", None)
        return reference

    def dataset_references(self) -> dict[str, str]:
        """Every data set that the job reads: `dataset` trains, the others are of the sections that name one."""
        named = {"dataset": self.dataset_reference()}
        for section in ("validation", "test"):
            named[section] = getattr(getattr(self, section, None), "dataset", None)
        return {field: reference for field, reference in named.items() if reference is not None}

    def model_references(self) -> dict[str, str]:
        """Role -> reference of each model that the job reads. BASE_ROLE is the one it starts from."""
        reference: str | None = getattr(self, "model", None)
        return {} if reference is None else {BASE_ROLE: reference}

    @property
    def processes(self) -> int:
        """How many processes run the job together, each with a GPU of its own where there are more than one."""
        return 1

    def default_learning_rate(self) -> float | None:
        """What a spec of this sort trains with that names no learning rate; None for kinds that have none."""
        training = getattr(self, "training", None)
        field = type(training).model_fields.get("learning_rate") if isinstance(training, Section) else None
        rate: float | None = field.default if field is not None else None
        return rate

    def training_in_words(self) -> str:
        """What decides which learning rates are usual."""
        return self.kind

    def problems_of_resources(self) -> list[Problem]:
        """Why this kind can't use the resources that are asked for; empty when it can."""
        if self.resources.gpus <= 1:
            return []
        return [
            Problem(
                field="resources.gpus",
                message=f"{self.kind} trains on one GPU; the job asks for {self.resources.gpus}.",
                remedy="Ask for one GPU or none.",
            )
        ]

    def read_columns(self) -> list[tuple[str, str]]:
        """The columns of the data set that the job reads, each with the field of the spec that names it."""
        return []

    def absent_columns(self, profile: DatasetProfile) -> list[Problem]:
        """That the data set has no such column, for each that it lacks."""
        known = ", ".join(profile.columns)
        return [
            Problem(field=field, message=f"the data set has no column {column!r}.", remedy=f"Its columns are: {known}.")
            for field, column in self.read_columns()
            if column not in profile.columns
        ]

    def problems_with(self, profile: DatasetProfile) -> list[Problem]:
        """Why this spec can't work on a data set with this profile; empty when it can, as far as a profile tells."""
        return []

    def problems_of_models(self, tasks: Mapping[str, str | None]) -> list[Problem]:
        """Why models with these tasks can't do what the job wants of them, by role; None: the model has no task.

        Roles whose task isn't known yet are left out.
        """
        return []

    def profile_made(self, profile: DatasetProfile) -> DatasetProfile:
        """What a data set that the job makes of one with this profile will be like, as far as that is known."""
        return profile

    def batch_shape(self, profile: DatasetProfile | None) -> tuple[int, int]:
        """Sequences per training step, and tokens of the longest one at most: what the memory estimate needs."""
        return 1, 512
