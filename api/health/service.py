"""Asks each part whether it works."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Literal

from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from api.parts import Parts
from storage.database import DatabaseUnavailable, SchemaMismatch
from storage.objects import ObjectStoreError

log = logging.getLogger(__name__)

#: Seconds for which an answer holds: the route is open to everybody and must not become a way to load the parts.
_FRESH_S = 1.0
#: Seconds that a part has to answer.
_PATIENCE_S = 5.0

#: Seconds without a look at the queue after which nothing is scheduled. A leader that hangs is replaced before that.
SCHEDULER_SILENT_S = 30.0

PartState = Literal["ok", "unavailable"]


class Readiness(BaseModel):
    """`degraded`: the API works; what does not, and what that means, stands in `reasons`."""

    status: Literal["ok", "degraded", "unavailable"]
    database: PartState
    objects: PartState
    redis: PartState
    #: Whether jobs get places.
    scheduler: PartState
    reasons: list[str]


@dataclass
class ReadinessProbe:
    """Remembers the last answer for a moment; many who ask at once share one look."""

    parts: Parts
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _known: Readiness | None = None
    _known_at_s: float = 0.0

    async def look(self) -> Readiness:
        async with self._lock:
            if self._known is None or time.monotonic() - self._known_at_s > _FRESH_S:
                self._known = await _look(self.parts)
                self._known_at_s = time.monotonic()
            return self._known


async def _look(parts: Parts) -> Readiness:
    database, objects, redis = await asyncio.gather(
        _reason(run_in_threadpool(_database_problem, parts), "The database"),
        _reason(run_in_threadpool(_objects_problem, parts), "The object store"),
        _reason(_redis_problem(parts), "Redis"),
    )
    scheduler = database or await _reason(run_in_threadpool(_scheduler_problem, parts), "The database")
    return Readiness(
        status="unavailable" if database or objects else "degraded" if redis or scheduler else "ok",
        database=_state(database),
        objects=_state(objects),
        redis=_state(redis),
        scheduler=_state(scheduler),
        reasons=list(dict.fromkeys(problem for problem in (database, objects, redis, scheduler) if problem)),
    )


def _state(problem: str | None) -> PartState:
    return "unavailable" if problem else "ok"


async def _reason(question: Awaitable[str | None], part: str) -> str | None:
    """What is wrong with the part; None when nothing is."""
    try:
        return await asyncio.wait_for(question, _PATIENCE_S)
    except TimeoutError:
        return f"{part} did not answer within {_PATIENCE_S:g} s."


def _database_problem(parts: Parts) -> str | None:
    try:
        parts.database.check()
    except SchemaMismatch as error:
        return str(error)
    except DatabaseUnavailable as error:
        # The route is open to everybody; addresses stay in the log.
        log.warning("not ready: %s", error)
        return "The database does not answer."
    return None


def _objects_problem(parts: Parts) -> str | None:
    try:
        parts.objects.within(_PATIENCE_S).healthy()
    except ObjectStoreError as error:
        log.warning("not ready: %s", error)
        return "The object store does not answer."
    return None


async def _redis_problem(parts: Parts) -> str | None:
    return None if await parts.watcher.available() else "Redis does not answer: there is no live progress."


def _scheduler_problem(parts: Parts) -> str | None:
    try:
        with parts.database.unit_of_work() as work:
            leader = work.leader.newest()
    except DatabaseUnavailable as error:
        log.warning("not ready: %s", error)
        return "The database does not answer."
    if leader is None:
        return "No scheduler has ever run: jobs wait."
    if leader.silent_for_s > SCHEDULER_SILENT_S:
        return f"No scheduler has looked at the queue for {leader.silent_for_s:.0f} s: jobs wait."
    return None
