"""What the platform answers about itself: its hosts and what it stores."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from eigenwerk.resources.resource import Resource
from jobspecs.hosts import Machine


class Host(Resource):
    """A worker that runs jobs; `reason`, `message` and `remedy` say why it takes none."""

    name: str
    alive: bool
    accepting: bool
    reason: str | None = None
    message: str | None = None
    remedy: str | None = None
    slots: int
    memory_bytes: int
    gpus: int
    clock_offset_s: float | None = None
    #: What it can serve models with: name -> `version`, `environment`.
    engines: dict[str, Any] = Field(default_factory=dict)
    #: Somebody wants it to be left.
    draining: bool = False
    machine: Machine | None = None
    #: When it joined with a token; None for one that `eigenwerk up` started.
    joined_at: datetime | None = None
    seen_at: datetime


class StoredKind(Resource):
    """`kind`: datasets, models, checkpoints or imports."""

    owner: str
    kind: str
    items: int
    bytes: int


class StorageUsage(Resource):
    """Bytes in the object store by owner and kind."""

    data: list[StoredKind]
    bytes_total: int
    #: Bytes that nothing names and that go within the hour; only of everybody's usage.
    unreferenced_bytes: int | None = None
