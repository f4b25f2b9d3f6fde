"""The document of a pipeline, and what it means once it was checked (`jobspecs.pipelines.reading`). Such as

kind: pipeline
name: better-quality
models: {prod: newsticker-quality@prod}
steps:
  train: {kind: train-classifier, name: newsticker-quality, model: minilm-l6@1, …}
  promote:
    kind: alias
    model: $train.model
    alias: prod
    when: not $prod.exists or $train.macro_f1.low > $prod.macro_f1.high
  serve: {kind: deploy, name: newsticker, model: $train.model, after: [promote]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from jobspecs.kinds.base import Section
from jobspecs.pipelines.conditions import CONDITION_CHARS_MAX, SOURCE_PATTERN, Condition
from jobspecs.pipelines.order import in_order
from jobspecs.pipelines.steps import StepSpec
from jobspecs.references import ModelReference, Name

KIND = "pipeline"
STEPS_MAX, MODELS_MAX = 200, 50

SourceName = Annotated[str, StringConstraints(pattern=f"^{SOURCE_PATTERN}$")]


class PipelineDocument(Section):
    """As it is written. A step is a job spec, a deployment or an alias, with `when` and `after` beside it."""

    kind: Literal["pipeline"]
    name: Name
    reuse: bool = Field(
        default=False, description="take a step from an earlier success with the same spec, inputs and code"
    )
    models: dict[SourceName, ModelReference] = Field(
        default={},
        max_length=MODELS_MAX,
        description="models of the registry that conditions compare with: name -> reference",
    )
    steps: dict[SourceName, dict[str, Any]] = Field(min_length=1, max_length=STEPS_MAX)


class Beside(Section):
    """What a step says beside its spec: a condition, and steps that go before though it reads nothing of theirs."""

    when: str | None = Field(default=None, min_length=1, max_length=CONDITION_CHARS_MAX)
    after: list[SourceName] = Field(default=[], max_length=STEPS_MAX)


@dataclass(frozen=True)
class PipelineStep:
    """A step that was checked. `document` is its spec as written; in `spec` stand-ins are what steps will make."""

    name: str
    document: Mapping[str, Any]
    spec: StepSpec
    #: Role of a model, or of a data set as `dataset_references` calls it -> the step that makes it.
    models: Mapping[str, str]
    datasets: Mapping[str, str]
    when: str | None
    condition: Condition | None
    #: Steps that have to succeed before, in the order of the document.
    needs: tuple[str, ...]

    @property
    def kind(self) -> str:
        return self.spec.kind


@dataclass(frozen=True)
class Pipeline:
    """`steps` in the order of the document; `models`: what conditions compare with, name -> reference."""

    name: str
    reuse: bool
    models: Mapping[str, str]
    steps: tuple[PipelineStep, ...]

    def in_order(self) -> list[PipelineStep]:
        """The steps, each behind what it needs."""
        by_name = {step.name: step for step in self.steps}
        return [by_name[name] for name in in_order({step.name: step.needs for step in self.steps})]
