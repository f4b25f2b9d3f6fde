"""What the platform answers about sweeps."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from eigenwerk.resources.resource import Resource
from jobspecs.estimate import Duration
from jobspecs.events import ProgressEvent
from jobspecs.problems import Problem
from jobspecs.sweeps.lifecycle import ENDED


class SweepForecast(Resource):
    """What a sweep would take. `trial`: seconds of one; `work`: of all jobs; `duration`: from begin to end."""

    name: str
    trials: int
    metrics: list[str] = Field(default_factory=list)
    goal: str = "max"
    #: Values of the first trials, as far as they are known before any has ended.
    first: list[dict[str, Any]] = Field(default_factory=list)
    memory_bytes: int = 0
    trial: Duration
    work: Duration
    duration: Duration
    warnings: list[Problem] = Field(default_factory=list)


class Trial(Resource):
    """One trial, or what confirms the winner (number 0). `state` is one of `jobspecs.sweeps.lifecycle.TrialState`."""

    number: int
    values: dict[str, Any]
    state: str
    reason: str | None = None
    message: str | None = None
    #: The figure that decides, with its 95 % interval.
    value: float | None = None
    low: float | None = None
    high: float | None = None
    #: Its loss on rows held out at each rung that it came to.
    rungs: list[float] = Field(default_factory=list)
    steps: int = 0
    job_id: str | None = None
    job_state: str | None = None
    progress: ProgressEvent | None = None
    #: `owner/name@version` of what it registered.
    result: str | None = None
    started_at: datetime
    finished_at: datetime | None = None


class SweepSummary(Resource):
    """A sweep in a list. `state` is one of `jobspecs.sweeps.lifecycle.SweepState`."""

    id: str
    name: str
    owner: str = ""
    state: str
    message: str | None = None
    #: At most.
    trials_total: int = 0
    #: State -> how many of the trials that began are in it.
    trial_states: dict[str, int] = Field(default_factory=dict)
    created_at: datetime
    finished_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class Sweep(SweepSummary):
    """One sweep, whole; its trials the best first."""

    document: dict[str, Any] = Field(default_factory=dict)
    metrics: list[str] = Field(default_factory=list)
    goal: str = "max"
    rungs: list[int] = Field(default_factory=list)
    trials: list[Trial] = Field(default_factory=list)
    winner: int | None = None
    confirmation: Trial | None = None
