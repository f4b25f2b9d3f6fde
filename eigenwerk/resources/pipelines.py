"""What the platform answers about pipelines."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from eigenwerk.resources.resource import Resource
from jobspecs.estimate import Duration, Estimate
from jobspecs.events import ProgressEvent
from jobspecs.pipelines.lifecycle import ENDED
from jobspecs.problems import Problem


class StepForecast(Resource):
    """What a step would take; `estimate` is of a job."""

    name: str
    kind: str
    needs: list[str] = Field(default_factory=list)
    estimate: Estimate | None = None
    memory_bytes: int = 0
    warnings: list[Problem] = Field(default_factory=list)


class PipelineForecast(Resource):
    """What a whole pipeline would take. `duration`: of the longest way through it; `work`: of all its jobs together."""

    name: str
    steps: list[StepForecast]
    duration: Duration
    work: Duration


class StepResult(Resource):
    """The version that a step registered (`owner/name@version`), and what was measured."""

    type: str
    reference: str
    metrics: dict[str, float] = Field(default_factory=dict)


class PipelineStep(Resource):
    """One step. `state` is one of `jobspecs.pipelines.lifecycle.StepState`; `figures`: what its condition saw."""

    name: str
    kind: str
    state: str
    reason: str | None = None
    message: str | None = None
    needs: list[str] = Field(default_factory=list)
    condition: str | None = None
    figures: dict[str, float | bool | None] | None = None
    warnings: list[Problem] = Field(default_factory=list)
    #: What it runs or ran last, or was taken from.
    job_id: str | None = None
    job_state: str | None = None
    progress: ProgressEvent | None = None
    #: The name of what it wants served.
    deployment: str | None = None
    result: StepResult | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class PipelineSummary(Resource):
    """A pipeline in a list. `state` is one of `jobspecs.pipelines.lifecycle.PipelineState`."""

    id: str
    name: str
    owner: str = ""
    state: str
    message: str | None = None
    #: State -> how many of its steps are in it.
    step_states: dict[str, int] = Field(default_factory=dict)
    created_at: datetime
    finished_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class Pipeline(PipelineSummary):
    """One pipeline, whole; its steps in the order of the document."""

    document: dict[str, Any] = Field(default_factory=dict)
    #: What follows it among `pipeline_events` is not in here.
    cursor: str = "0"
    steps: list[PipelineStep] = Field(default_factory=list)
