"""The shapes of hosts in answers."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from jobspecs.hosts import Machine


class HostEngine(BaseModel):
    """An engine that the host can start; `environment`: sha256 of the lock file of the environment that it runs in."""

    version: str
    environment: str | None = None


class Host(BaseModel):
    """A worker that runs jobs, as it last announced itself."""

    object: Literal["host"] = "host"
    name: str
    #: Announced itself within the last half minute.
    alive: bool
    #: Takes jobs; otherwise `reason` says why not, and `remedy` what to do.
    accepting: bool
    reason: str | None
    message: str | None
    remedy: str | None
    slots: int
    memory_bytes: int
    gpus: int
    #: Seconds by which its clock is ahead of the database's.
    clock_offset_s: float | None
    #: What it can serve models with, by name; empty where nothing serves.
    engines: dict[str, HostEngine]
    #: Somebody wants it to be left.
    draining: bool
    #: What it is made of; null for a worker of an older version.
    machine: Machine | None
    #: When it joined with a token; null for one that `eigenwerk up` started.
    joined_at: datetime | None
    seen_at: datetime


class HostList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Host]
