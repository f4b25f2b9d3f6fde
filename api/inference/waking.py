"""Deployments that sleep are woken by whoever asks them; requests wait meanwhile, for a bounded time.

So do those for an adapter that engines are about to have.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from fastapi.concurrency import run_in_threadpool

from api.errors import unavailable
from api.inference.refusals import RETRY_AFTER_S
from api.inference.splitting import has_adapter, is_changing
from api.middleware import add_header
from api.references.places import why_it_waits
from jobspecs.rights import Reach
from storage.database import Database
from storage.repositories.serving.sleep import Start
from storage.tables import DeploymentRow

#: Seconds that the start is expected to take by the last ones of the deployment.
EXPECTED_WAIT = "X-Expected-Wait-S"
#: Seconds between two looks at a deployment that is being woken: one request after another sees that it is ready.
POLL_S = 0.25


@dataclass(frozen=True)
class Asleep:
    """A deployment that sleeps, or is being woken; with an `adapter`, one that answers and is about to have it."""

    #: As the request named it.
    called: str
    owner_id: UUID
    name: str
    #: `owner/name@version`.
    adapter: str | None = None


@dataclass(frozen=True)
class Waking:
    """How far it is; `start` is None once there is nothing to wait for: it answers, or it never will."""

    start: Start | None
    #: Why no host has it yet, for people.
    message: str | None = None


@dataclass
class _Watch:
    waiting: int = 0
    #: Of the first look and of the last one.
    first: Waking | None = None
    last: Waking | None = None
    task: asyncio.Task[None] = field(init=False)


class Waker:
    """One per process. However many ask, the database is asked by one task for each deployment."""

    def __init__(self, database: Database, wait_s: float) -> None:
        """A request waits `wait_s` seconds at most."""
        self._database, self._wait_s = database, wait_s
        self._watches: dict[Asleep, _Watch] = {}

    async def await_awake(self, asleep: Asleep) -> None:
        """Returns when there is nothing to wait for any more. Raises ApiError 503 when that takes too long."""
        key = replace(asleep, called="")
        watch = self._watches.get(key)
        if watch is None:
            watch = self._watches[key] = _Watch()
            watch.task = asyncio.create_task(self._watch(asleep, watch))
        watch.waiting += 1
        try:
            # Without `shield` whoever gives up would end it for all.
            async with asyncio.timeout(self._wait_s):
                await asyncio.shield(watch.task)
        except TimeoutError:
            raise _not_yet(asleep, watch.last) from None
        finally:
            watch.waiting -= 1
            if not watch.waiting or watch.task.done():
                self._watches.pop(key, None)
                watch.task.cancel()
        if (expected_s := _left_s(watch.first)) is not None:
            add_header(EXPECTED_WAIT, str(expected_s))

    async def _watch(self, asleep: Asleep, watch: _Watch) -> None:
        if asleep.adapter is None:
            await run_in_threadpool(self._wake, asleep)
        while True:
            watch.last = await run_in_threadpool(self._look, asleep)
            watch.first = watch.first or watch.last
            if watch.last.start is None:
                return
            await asyncio.sleep(POLL_S)

    def _wake(self, asleep: Asleep) -> None:
        with self._database.unit_of_work() as work:
            work.sleep.wake(asleep.owner_id, asleep.name)

    def _look(self, asleep: Asleep) -> Waking:
        with self._database.unit_of_work() as work:
            shares = work.deployments.find_shares(Reach.of(asleep.owner_id), asleep.name)
            if asleep.adapter is not None:
                return Waking(_until_loaded(shares, asleep.adapter))
            waking = [row for row in shares if row.wanted and row.woken_at is not None]
            if not waking or any(row.answers for row in shares):
                return Waking(None)
            row = waking[0]
            return Waking(work.sleep.start_of(row), row.message or why_it_waits(work, row))


def _until_loaded(shares: Sequence[DeploymentRow], adapter: str) -> Start | None:
    loading = any(row.wanted and is_changing(row) for row in shares)
    over = not loading or any(has_adapter(row, adapter) for row in shares)
    return None if over else Start(expected_s=None, elapsed_s=0.0, waits_for_room=False)


def _left_s(waking: Waking | None) -> int | None:
    """Whole seconds that it still takes by the last starts; None when there were none."""
    start = waking.start if waking else None
    if start is None or start.expected_s is None:
        return None
    passed_s = 0.0 if start.waits_for_room else start.elapsed_s
    return max(1, math.ceil(start.expected_s - passed_s))


def _not_yet(asleep: Asleep, waking: Waking | None) -> Exception:
    if asleep.adapter is not None:
        message = f"The adapter {asleep.adapter} is being loaded. Ask again shortly."
        return unavailable(message, "deployment_not_ready", RETRY_AFTER_S)
    left_s = _left_s(waking)
    why = f" {waking.message}" if waking and waking.message else ""
    message = f"The deployment {asleep.called} was asleep and is being woken.{why} Ask again shortly."
    if left_s is None:
        return unavailable(message, "deployment_waking")
    add_header(EXPECTED_WAIT, str(left_s))
    return unavailable(message, "deployment_waking", left_s)
