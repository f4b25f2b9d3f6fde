"""The shapes of sweeps in answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel

from jobspecs.estimate import Duration
from jobspecs.events import ProgressEvent
from jobspecs.lifecycle import JobState
from jobspecs.problems import Problem
from jobspecs.sweeps.lifecycle import SweepState, TrialReason, TrialState


class SweepForecast(BaseModel):
    """What a sweep would take; nothing is queued."""

    object: Literal["sweep.forecast"] = "sweep.forecast"
    name: str
    #: At most, without what confirms the winner.
    trials: int
    #: The figure that decides, one of these.
    metrics: list[str]
    goal: Literal["max", "min"]
    #: Values of the first trials, as far as they are known before any has ended.
    first: list[dict[str, Any]]
    #: Main memory that a host must have free for each trial.
    memory_bytes: int
    #: Seconds of one trial that is not stopped.
    trial: Duration
    #: Seconds of all jobs together, what confirms the winner among them, and from begin to end.
    work: Duration
    duration: Duration
    warnings: list[Problem]


class Trial(BaseModel):
    """One trial, or what confirms the winner (number 0)."""

    number: int
    values: dict[str, Any]
    state: TrialState
    reason: TrialReason | None
    message: str | None
    #: The figure that decides, on rows that no trial trains on, with its 95 % interval.
    value: float | None
    low: float | None
    high: float | None
    #: Its loss on rows held out at each rung that it came to.
    rungs: list[float]
    #: Training steps, as far as it told of them.
    steps: int
    job_id: UUID | None
    job_state: JobState | None
    progress: ProgressEvent | None
    #: The model or data set that it registered: `owner/name@version`.
    result: str | None
    started_at: datetime
    finished_at: datetime | None


class SweepSummary(BaseModel):
    """A sweep in a list."""

    object: Literal["sweep"] = "sweep"
    id: UUID
    name: str
    owner: str
    state: SweepState
    message: str | None
    #: At most.
    trials_total: int
    #: State -> how many of the trials that began are in it.
    trial_states: dict[TrialState, int]
    created_at: datetime
    finished_at: datetime | None


class SweepDetail(SweepSummary):
    """One sweep, whole. `trials`: the best first, then those that were stopped, the furthest first, then the others."""

    document: dict[str, Any]
    metrics: list[str]
    goal: Literal["max", "min"]
    #: Steps of the rungs at which trials may stop.
    rungs: list[int]
    trials: list[Trial]
    #: The number of the best trial, once all have ended.
    winner: int | None
    #: The winner's spec, trained anew and judged by rows that no trial saw.
    confirmation: Trial | None


class SweepList(BaseModel):
    """A page, newest first. `next_before` asks for the next one."""

    object: Literal["list"] = "list"
    data: list[SweepSummary]
    has_more: bool
    next_before: int | None
