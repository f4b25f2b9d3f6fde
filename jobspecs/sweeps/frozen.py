"""What a sweep's trials read, frozen at submit, and what each of them takes of a host."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from jobspecs.frozen import FrozenInputs
from jobspecs.kinds.base import SpecBase
from jobspecs.pipelines.frozen import DATASET_ROLES
from jobspecs.problems import Problem


def references_of(spec: SpecBase) -> dict[str, str]:
    """All that the spec names of models and data sets, by role."""
    datasets = {DATASET_ROLES[role]: text for role, text in spec.dataset_references().items()}
    return {**spec.model_references(), **datasets}


class Variant(BaseModel):
    """One choice of models and data sets. `memory_bytes`: of the largest trial that was estimated."""

    model_config = ConfigDict(frozen=True)

    references: dict[str, str]
    inputs: FrozenInputs
    memory_bytes: int
    warnings: tuple[Problem, ...] = ()


class SweepPlan(BaseModel):
    """Everything that was found out before the first trial was queued."""

    model_config = ConfigDict(frozen=True)

    variants: tuple[Variant, ...] = Field(min_length=1)

    def variant_of(self, references: Mapping[str, str]) -> Variant:
        """Raises KeyError for what nobody froze."""
        for variant in self.variants:
            if variant.references == references:
                return variant
        raise KeyError(str(dict(references)))
