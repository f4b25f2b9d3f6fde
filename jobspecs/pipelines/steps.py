"""The steps of a pipeline that are no jobs: a deployment, and an alias that moves."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from jobspecs.deploying import ADAPTERS_MAX, Deploying
from jobspecs.kinds.base import BASE_ROLE, Section, SpecBase
from jobspecs.references import AliasName, ModelReference, Name


class DeployStep(Deploying):
    """Serves a model under a name, or changes what is served there."""

    kind: Literal["deploy"]
    name: Name = Field(description="the deployment's name")
    model: ModelReference
    adapters: list[ModelReference] | None = Field(
        default=None,
        max_length=ADAPTERS_MAX,
        description="LoRA adapters of this model, served beside it; when absent those of now that fit",
    )

    def model_references(self) -> dict[str, str]:
        beside = {adapter_role(number): text for number, text in enumerate(self.adapters or ())}
        return {BASE_ROLE: self.model, **beside}


def adapter_role(number: int) -> str:
    """What frozen inputs call the adapter of that place; also its field."""
    return f"adapters.{number}"


class AliasStep(Section):
    """Points an alias of the model's name at this version of it."""

    kind: Literal["alias"]
    alias: AliasName
    model: ModelReference
    reason: str | None = Field(default=None, min_length=1, max_length=500, description="why, for the alias's history")
    force: bool = Field(default=False, description="even onto a version that is unverified; its history keeps it")

    def model_references(self) -> dict[str, str]:
        return {BASE_ROLE: self.model}


StepSpec = SpecBase | DeployStep | AliasStep
#: Kinds of steps beside the job kinds.
STEP_KINDS: Mapping[str, type[DeployStep | AliasStep]] = MappingProxyType({"deploy": DeployStep, "alias": AliasStep})
