"""Live progress in Redis streams. A convenience: everything here is also written to PostgreSQL, in batches.

One stream per job; the entry id is `<fence>-<number>`, the same pair that orders events in PostgreSQL, so a watcher
can change from one source to the other at any point.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import redis
import redis.asyncio

from jobspecs.events import RecordedEvent

log = logging.getLogger(__name__)

#: Entries kept per job, about: a watcher that is further behind reads PostgreSQL.
STREAM_ENTRIES_MAX = 2000
#: Seconds after which a stream that nobody writes to is dropped.
STREAM_IDLE_S = 24 * 3600
#: A Redis that answers slower than this is treated as absent: nothing waits for it.
_TIMEOUT_S = 2.0
#: Seconds before the first probe and between two, and how many go unanswered before a connection counts as broken.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}


def connection_options() -> dict[str, Any]:
    """Timeouts for every Redis connection. Without them a stopped Redis blocks its callers for ever."""
    return {
        "socket_timeout": _TIMEOUT_S,
        "socket_connect_timeout": _TIMEOUT_S,
        "retry_on_timeout": False,
        # A watcher's read has no timeout; this ends it when Redis's host has gone without a word.
        "socket_keepalive": True,
        "socket_keepalive_options": _KEEPALIVE,
    }


def stream_name(job_id: UUID) -> str:
    return f"eigenwerk:job:{job_id}:events"


class ProgressPublisher:
    """Writes events to the job's stream. While Redis is away they are dropped here and only PostgreSQL has them."""

    def __init__(self, redis_url: str) -> None:
        self._redis = redis.Redis.from_url(redis_url, **connection_options())

    def publish(self, job_id: UUID, events: Sequence[RecordedEvent]) -> bool:
        """Whether the events are in the stream."""
        name = stream_name(job_id)
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                for event in events:
                    pipeline.xadd(
                        name,
                        {"event": event.model_dump_json()},
                        id=f"{event.fence}-{event.number}",
                        maxlen=STREAM_ENTRIES_MAX,
                        approximate=True,
                    )
                pipeline.expire(name, STREAM_IDLE_S)
                # An entry with an older id than the newest is refused (a fenced-off attempt that still speaks).
                answers = pipeline.execute(raise_on_error=False)
        except redis.RedisError as error:
            log.debug("progress is not published: %s", error)
            return False
        return not any(isinstance(answer, Exception) for answer in answers)

    def close(self) -> None:
        self._redis.close()


class ProgressWatcher:
    """Waits for events of a job without blocking a thread: thousands of watchers cost sockets only."""

    def __init__(self, redis_url: str) -> None:
        options = connection_options()
        # The read blocks on purpose; its own limit comes from XREAD's `block`.
        options["socket_timeout"] = None
        self._redis = redis.asyncio.Redis.from_url(redis_url, **options)

    async def wait(self, job_id: UUID, fence: int, number: int, *, timeout_s: float) -> list[RecordedEvent] | None:
        """Events after (fence, number), an empty list when none came in `timeout_s`, None when Redis is absent."""
        try:
            answer = await self._redis.xread(
                {stream_name(job_id): f"{fence}-{max(number, 0)}"}, count=500, block=max(1, int(timeout_s * 1000))
            )
        except (redis.RedisError, OSError) as error:
            log.debug("progress is not watched: %s", error)
            return None
        entries = answer[0][1] if isinstance(answer, list) and answer else []
        return [RecordedEvent.model_validate_json(fields[b"event"]) for _, fields in entries]

    async def available(self) -> bool:
        """Whether Redis answers within the usual time."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._redis.ping()
        except (redis.RedisError, OSError, TimeoutError) as error:
            log.debug("Redis does not answer: %s", error)
            return False
        return True

    async def close(self) -> None:
        await self._redis.aclose()
