"""The shapes of jobs in answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from jobspecs.estimate import Estimate
from jobspecs.events import LogEvent, ProgressEvent, StateChange
from jobspecs.frozen import PipelineOrigin, ScheduleOrigin, SweepOrigin
from jobspecs.lifecycle import JobState
from jobspecs.problems import Problem
from storage.tables.jobs import BOOST_MAX


class JobInputs(BaseModel):
    """What the references of the spec meant at submit."""

    dataset: str | None
    #: A data set of its own whose rows judge.
    held_out: str | None = None
    test: str | None = None
    model: str | None
    #: Models in other roles: role -> reference.
    models: dict[str, str] = Field(default_factory=dict)


class JobResult(BaseModel):
    """The model or data set version that the job registered."""

    type: Literal["model", "dataset"]
    #: `owner/name@version` of a model; None when the job made a data set.
    model: str | None
    #: `owner/name@version` of a data set; None when the job made a model.
    dataset: str | None
    owner: str
    name: str
    version: int
    digest: str
    bytes: int
    metrics: dict[str, float]
    report: dict[str, Any]


class BoostRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    boost: int = Field(ge=0, le=BOOST_MAX, description="0 unless an administrator sets it; higher goes first")


class JobSummary(BaseModel):
    """A job in a list."""

    object: Literal["job"] = "job"
    id: UUID
    kind: str
    name: str
    owner: str
    state: JobState
    reason: str | None
    message: str | None
    #: What the user can do about `reason`.
    remedy: str | None
    #: Orders the owner's own jobs.
    priority: int
    #: Orders everybody's; an administrator sets it.
    boost: int
    #: Attempts so far; each has a fence, counted from 1.
    attempts: int
    #: Crashes of its process, and hosts that failed under it, since its newest checkpoint.
    crash_count: int
    host_losses: int
    host: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobDetail(JobSummary):
    """One job, whole."""

    spec: dict[str, Any]
    inputs: JobInputs
    #: What may be wasteful about it, found when it was submitted.
    warnings: list[Problem]
    #: What it would take, as far as that was known when it was submitted.
    estimate: Estimate | None
    slots: int
    memory_bytes: int
    gpus: int
    progress: ProgressEvent | None
    result: JobResult | None
    #: Why a queued job does not start, when hosts are the reason.
    waiting_for: str | None
    #: The pipeline whose step it is.
    pipeline: PipelineOrigin | None
    #: The sweep of which it is a trial, or confirms the winner.
    sweep: SweepOrigin | None
    #: The schedule that submitted it, or its pipeline, and the time that it was for.
    schedule: ScheduleOrigin | None
    #: The ended job that it retries, and the jobs that retry it.
    retry_of: UUID | None
    retried_as: list[UUID]
    #: The step of its newest stored checkpoint, which the next attempt, or a retry, goes on from.
    checkpoint_step: int | None
    #: Hosts that could not run it and that it keeps away from at the moment.
    avoided_hosts: list[str]
    #: Seconds for which hosts had it, in all attempts that have ended.
    run_s: float
    transitions: list[StateChange]


class JobList(BaseModel):
    """A page, newest first. `next_before` asks for the next one."""

    object: Literal["list"] = "list"
    data: list[JobSummary]
    has_more: bool
    next_before: int | None


class EventItem(BaseModel):
    """One event with the cursor that stands behind it."""

    id: str
    type: str
    data: dict[str, Any]


class EventPage(BaseModel):
    """Events in order. `cursor` goes into `after` of the next request; `ended`: no more will come after this page."""

    object: Literal["list"] = "list"
    data: list[EventItem]
    has_more: bool
    cursor: str
    ended: bool


class LogLine(BaseModel):
    fence: int
    number: int
    at: datetime
    level: str
    message: str

    @classmethod
    def of(cls, fence: int, number: int, at: datetime, event: LogEvent) -> LogLine:
        return cls(fence=fence, number=number, at=at, level=event.level, message=event.message)


class LogPage(BaseModel):
    """Log lines in order. `cursor` goes into `after` of the next request."""

    object: Literal["list"] = "list"
    data: list[LogLine]
    has_more: bool
    cursor: str
