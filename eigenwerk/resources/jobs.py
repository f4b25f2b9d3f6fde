"""What the platform answers about jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from eigenwerk.resources.resource import Resource
from jobspecs.events import ProgressEvent
from jobspecs.frozen import PipelineOrigin, ScheduleOrigin, SweepOrigin
from jobspecs.lifecycle import TERMINAL
from jobspecs.problems import Problem


class JobSummary(Resource):
    """A job in a list. `state` is one of `jobspecs.lifecycle.JobState`."""

    id: str
    kind: str
    name: str
    owner: str = ""
    state: str
    reason: str | None = None
    message: str | None = None
    #: What the user can do about `reason`.
    remedy: str | None = None
    boost: int = 0
    attempts: int = 0
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL


class JobResult(Resource):
    """The model or data set version that a job registered, and what was measured."""

    #: `owner/name@version` of the model; None when the job made a data set.
    model: str | None = None
    #: `owner/name@version` of the data set; None when the job made a model.
    dataset: str | None = None
    owner: str
    name: str
    version: int
    metrics: dict[str, float] = Field(default_factory=dict)
    report: dict[str, Any] = Field(default_factory=dict)


class Job(JobSummary):
    """One job, whole."""

    spec: dict[str, Any] = Field(default_factory=dict)
    #: What may be wasteful about it, found when it was submitted.
    warnings: list[Problem] = Field(default_factory=list)
    progress: ProgressEvent | None = None
    result: JobResult | None = None
    #: Why a queued job does not start, when hosts are the reason.
    waiting_for: str | None = None
    #: The pipeline whose step it is.
    pipeline: PipelineOrigin | None = None
    #: The sweep of which it is a trial, or confirms the winner.
    sweep: SweepOrigin | None = None
    #: The schedule that submitted it, or its pipeline, and the time that it was for.
    schedule: ScheduleOrigin | None = None
    #: The ended job that it retries, and the jobs that retry it.
    retry_of: str | None = None
    retried_as: list[str] = Field(default_factory=list)
    #: The step of its newest stored checkpoint, which the next attempt, or a retry, goes on from.
    checkpoint_step: int | None = None
    #: Seconds for which hosts had it, in all attempts that have ended.
    run_s: float | None = None


class LogLine(Resource):
    at: datetime
    level: str
    message: str
