"""What a step of a pipeline reads, frozen at submit as far as it was there, and what it made."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from jobspecs.frozen import FrozenDataset, FrozenInputs, FrozenModel
from jobspecs.kinds.base import ADAPTER_BASE_SUFFIX, BASE_ROLE

#: What a spec calls a data set -> the field of FrozenInputs with it.
DATASET_ROLES = {"dataset": "dataset", "validation": "held_out", "test": "test"}


class StepOutput(BaseModel):
    """The version that a step registered, and what was measured."""

    model_config = ConfigDict(frozen=True)

    type: Literal["model", "dataset"]
    #: `owner/name@version`.
    reference: str
    version_id: UUID
    #: Of a model, or the sha256 of a data set's file.
    digest: str
    metrics: dict[str, float] = Field(default_factory=dict)


class StepInputs(BaseModel):
    """`frozen`: what does not come from other steps. `models`, `datasets`: role -> the step that makes it.

    `serving`: of a deployment, a `scheduling.estimates.shapes.ModelShape` where that says how much memory it takes.
    """

    model_config = ConfigDict(frozen=True)

    frozen: FrozenInputs = FrozenInputs()
    models: dict[str, str] = Field(default_factory=dict)
    datasets: dict[str, str] = Field(default_factory=dict)
    serving: dict[str, Any] | None = None

    def complete(
        self,
        models: dict[str, tuple[FrozenModel, FrozenModel | None]],
        datasets: dict[str, FrozenDataset],
    ) -> FrozenInputs:
        """All inputs, given those that other steps made: by step, a model with the base that it changes, if any."""
        found = self.frozen.by_role()
        for role, step in self.models.items():
            found[role], base = models[step]
            if base is not None:
                found[role + ADAPTER_BASE_SUFFIX] = base
        made = {DATASET_ROLES[role]: datasets[step] for role, step in self.datasets.items()}
        return self.frozen.model_copy(update={**made, "model": found.pop(BASE_ROLE, None), "models": found})
