"""The shapes of pipelines in answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel

from jobspecs.estimate import Duration, Estimate
from jobspecs.events import ProgressEvent
from jobspecs.lifecycle import JobState
from jobspecs.pipelines.lifecycle import PipelineState, StepReason, StepState
from jobspecs.problems import Problem


class StepForecast(BaseModel):
    """What a step would take. `estimate`: of a job; `memory_bytes`: what its host must have free for it."""

    name: str
    kind: str
    needs: list[str]
    estimate: Estimate | None
    memory_bytes: int
    warnings: list[Problem]


class PipelineForecast(BaseModel):
    """What a whole pipeline would take; nothing is queued."""

    object: Literal["pipeline.forecast"] = "pipeline.forecast"
    name: str
    steps: list[StepForecast]
    #: From the first step's start to the last one's end, where every step has a place as soon as it is ready.
    duration: Duration
    #: Seconds of all jobs together.
    work: Duration


class StepResult(BaseModel):
    """The version that a step registered, and what was measured."""

    type: Literal["model", "dataset"]
    #: `owner/name@version`.
    reference: str
    digest: str
    metrics: dict[str, float]


class PipelineStepDetail(BaseModel):
    """One step. `figures`: those of its condition, with what it saw."""

    name: str
    kind: str
    state: StepState
    reason: StepReason | None
    message: str | None
    needs: list[str]
    condition: str | None
    figures: dict[str, float | bool | None] | None
    spec: dict[str, Any]
    warnings: list[Problem]
    estimate: Estimate | None
    #: What it runs or ran last, or was taken from.
    job_id: UUID | None
    job_state: JobState | None
    progress: ProgressEvent | None
    #: The name of what it wants served.
    deployment: str | None
    result: StepResult | None
    started_at: datetime | None
    finished_at: datetime | None


class PipelineSummary(BaseModel):
    """A pipeline in a list."""

    object: Literal["pipeline"] = "pipeline"
    id: UUID
    name: str
    owner: str
    state: PipelineState
    message: str | None
    #: State -> how many of its steps are in it.
    step_states: dict[StepState, int]
    created_at: datetime
    finished_at: datetime | None


class PipelineDetail(PipelineSummary):
    """One pipeline, whole; its steps in the order of the document."""

    document: dict[str, Any]
    steps: list[PipelineStepDetail]
    #: Its place in `/v1/pipelines/{id}/events`: what follows there is not in this answer.
    cursor: str


class PipelineEventData(BaseModel):
    """A change of a state. `step`: whose; null for the pipeline itself."""

    seq: int
    at: datetime
    step: str | None
    state: PipelineState | StepState
    reason: StepReason | None
    message: str | None
    job_id: UUID | None


class PipelineEvent(BaseModel):
    """`id`: the place behind it."""

    id: str
    type: Literal["state", "step"]
    data: PipelineEventData


class PipelineEventPage(BaseModel):
    """What follows a place in the history. `cursor`: where to go on; `ended`: nothing will follow."""

    object: Literal["list"] = "list"
    data: list[PipelineEvent]
    has_more: bool
    cursor: str
    ended: bool


class DeletedPipeline(BaseModel):
    object: Literal["pipeline.deleted"] = "pipeline.deleted"
    id: UUID
    name: str
    deleted: Literal[True] = True


class PipelineList(BaseModel):
    """A page, newest first. `next_before` asks for the next one."""

    object: Literal["list"] = "list"
    data: list[PipelineSummary]
    has_more: bool
    next_before: int | None
