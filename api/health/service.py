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
from storage.database import DatabaseUnavailable
from storage.objects import ObjectStoreError

log = logging.getLogger(__name__)

#: Seconds for which an answer holds: the route is open to everybody and must not become a way to load the parts.
_FRESH_S = 1.0
#: Seconds that a part has to answer.
_PATIENCE_S = 5.0

PartState = Literal["ok", "unavailable"]


class Readiness(BaseModel):
    """`degraded`: everything works, without live progress."""

    status: Literal["ok", "degraded", "unavailable"]
    database: PartState
    objects: PartState
    redis: PartState


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
        _answers(run_in_threadpool(_database_answers, parts)),
        _answers(run_in_threadpool(_objects_answer, parts)),
        _answers(parts.watcher.available()),
    )
    needed = database and objects
    return Readiness(
        status="unavailable" if not needed else "ok" if redis else "degraded",
        database=_state(database),
        objects=_state(objects),
        redis=_state(redis),
    )


def _state(answers: bool) -> PartState:
    return "ok" if answers else "unavailable"


async def _answers(question: Awaitable[bool]) -> bool:
    try:
        return await asyncio.wait_for(question, _PATIENCE_S)
    except TimeoutError:
        return False


def _database_answers(parts: Parts) -> bool:
    try:
        parts.database.check()
    except DatabaseUnavailable as error:
        log.warning("not ready: %s", error)
        return False
    return True


def _objects_answer(parts: Parts) -> bool:
    try:
        parts.objects.healthy()
    except ObjectStoreError as error:
        log.warning("not ready: %s", error)
        return False
    return True
