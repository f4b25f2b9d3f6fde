"""Numbers an attempt's events and writes them: to Redis at once, to PostgreSQL in batches and for good."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from jobspecs.events import ChildEvent, RecordedEvent
from storage.database import Database, DatabaseUnavailable
from storage.progress import ProgressPublisher

log = logging.getLogger(__name__)

BATCH_EVENTS = 100
BATCH_S = 1.0
#: Seconds without an attempt after Redis did not answer; a stopped Redis costs 2 s each time.
REDIS_PAUSE_S = 5.0
#: Events held while PostgreSQL is away; the oldest go first.
_HELD_MAX = 20_000


class EventRecorder:
    """The events of one attempt, numbered from 1. `add` never waits: a slow server does not slow training."""

    def __init__(
        self,
        job_id: UUID,
        fence: int,
        database: Database,
        publisher: ProgressPublisher,
        on_fenced: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        self._job_id = job_id
        self._fence = fence
        self._database = database
        self._publisher = publisher
        self._on_fenced = on_fenced
        self._now = now
        self._number = 0
        self._changed = threading.Condition()
        self._to_publish: deque[RecordedEvent] = deque(maxlen=_HELD_MAX)
        self._to_store: deque[RecordedEvent] = deque(maxlen=_HELD_MAX)
        self._storing = threading.Lock()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._publish_on, name="events-redis", daemon=True),
            threading.Thread(target=self._store_on, name="events-postgresql", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def add(self, event: ChildEvent) -> None:
        with self._changed:
            self._number += 1
            recorded = RecordedEvent(fence=self._fence, number=self._number, at=self._now(), event=event)
            self._to_publish.append(recorded)
            self._to_store.append(recorded)
            self._changed.notify_all()

    def flush(self) -> None:
        """Writes to PostgreSQL what is still held. Raises DatabaseUnavailable; nothing is lost then."""
        with self._storing:
            while batch := list(self._to_store)[:BATCH_EVENTS]:
                with self._database.unit_of_work() as work:
                    written = work.events.add(self._job_id, self._fence, batch)
                with self._changed:
                    # Held events may have been pushed out at the left meanwhile: drop what was written, no more.
                    while self._to_store and self._to_store[0].number <= batch[-1].number:
                        self._to_store.popleft()
                if not written:
                    self._on_fenced()
                    return

    def close(self) -> None:
        """Ends the threads. What PostgreSQL did not take by `flush` is lost."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=BATCH_S + REDIS_PAUSE_S)

    def _publish_on(self) -> None:
        while True:
            with self._changed:
                while not self._to_publish and not self._closed.is_set():
                    self._changed.wait()
                batch = list(self._to_publish)
                self._to_publish.clear()
            if batch and not self._publisher.publish(self._job_id, batch):
                self._closed.wait(REDIS_PAUSE_S)
            if self._closed.is_set() and not self._to_publish:
                return

    def _store_on(self) -> None:
        last = time.monotonic()
        while not self._closed.is_set():
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closed.is_set() or len(self._to_store) >= BATCH_EVENTS,
                    timeout=max(0.0, last + BATCH_S - time.monotonic()),
                )
            last = time.monotonic()
            try:
                self.flush()
            except DatabaseUnavailable as error:
                log.warning("events of job %s wait for PostgreSQL: %s", self._job_id, error)
                self._closed.wait(BATCH_S)
            except Exception:
                log.exception("events of job %s could not be written", self._job_id)
                self._closed.wait(BATCH_S)
