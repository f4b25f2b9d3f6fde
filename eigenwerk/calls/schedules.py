"""Schedules: what the platform answers about them, and what a client asks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from pydantic import Field

from eigenwerk.http.transport import Transport
from eigenwerk.resources.resource import Resource


class ScheduleRun(Resource):
    """One time: what was queued, or why nothing was."""

    due_at: datetime
    job_id: str | None = None
    pipeline_id: str | None = None
    refused: str | None = None


class Schedule(Resource):
    """`next_times`: five, in UTC. `runs` (not in lists): the newest first."""

    id: str
    name: str
    cron: str
    time_zone: str
    #: What becomes of missed times: `skip`, `once` or `all`.
    missed: str
    #: Of the spec.
    kind: str
    #: `active` or `paused`.
    state: str
    next_times: list[datetime] = Field(default_factory=list)
    spec: dict[str, Any] = Field(default_factory=dict)
    runs: list[ScheduleRun] = Field(default_factory=list)
    created_at: datetime


class ScheduleCalls:
    """The part of a Client that is about schedules."""

    _transport: Transport

    def create_schedule(
        self, name: str, cron: str, spec: Mapping[str, Any], *, time_zone: str = "UTC", missed: str = "once"
    ) -> Schedule:
        """Submits the spec of a job or pipeline at each time that the cron expression means in the time zone."""
        body = {"name": name, "cron": cron, "time_zone": time_zone, "missed": missed, "spec": dict(spec)}
        return Schedule.model_validate(self._transport.call("POST", "/v1/schedules", json=body))

    def schedules(self) -> list[Schedule]:
        return [Schedule.model_validate(item) for item in self._transport.call("GET", "/v1/schedules")["data"]]

    def schedule(self, name: str) -> Schedule:
        return Schedule.model_validate(self._transport.call("GET", _path(name)))

    def pause_schedule(self, name: str) -> Schedule:
        return Schedule.model_validate(self._transport.call("POST", f"{_path(name)}/pause", repeatable=True))

    def resume_schedule(self, name: str) -> Schedule:
        """Goes on with the next time from now."""
        return Schedule.model_validate(self._transport.call("POST", f"{_path(name)}/resume", repeatable=True))

    def delete_schedule(self, name: str) -> None:
        """What it has submitted stays."""
        self._transport.call("DELETE", _path(name))


def _path(name: str) -> str:
    return f"/v1/schedules/{quote(name, safe='')}"
