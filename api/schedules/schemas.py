"""The shapes of schedules."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from jobspecs.references import Name
from scheduling.schedules import Missed


class ScheduleRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name
    #: Minute, hour, day of month, month, day of week.
    cron: Annotated[str, Field(max_length=200)]
    #: As the IANA names it: Europe/Berlin.
    time_zone: Annotated[str, Field(max_length=100)] = "UTC"
    #: What becomes of times at which no scheduler ran.
    missed: Missed = Missed.once
    #: The spec of a job, or of a pipeline.
    spec: dict[str, Any]


class ScheduleRun(BaseModel):
    """One time: the job or pipeline that was queued, or why nothing was."""

    due_at: datetime
    ran_at: datetime
    job_id: UUID | None
    pipeline_id: UUID | None
    refused: str | None


class Schedule(BaseModel):
    object: Literal["schedule"] = "schedule"
    id: UUID
    name: str
    owner: str
    cron: str
    time_zone: str
    missed: Missed
    #: Of the spec.
    kind: str
    state: Literal["active", "paused"]
    #: In UTC; none while it is paused.
    next_times: list[datetime]
    created_at: datetime


class ScheduleDetail(Schedule):
    spec: dict[str, Any]
    #: The newest twenty, newest first.
    runs: list[ScheduleRun]


class ScheduleList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Schedule]
