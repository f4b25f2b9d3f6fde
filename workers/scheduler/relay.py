"""Sends what committed transactions left in the outbox. Runs beside the leading scheduler, in a thread of its own.

A stopped Redis costs a publish its timeout; that must delay no decision. After a failure the relay pauses, and what
has waited for a minute is dropped: hosts and errands have polled PostgreSQL twenty times by then.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from celery import Celery
from kombu.exceptions import OperationalError as BrokerError
from redis import RedisError

from storage.database import Database, DatabaseUnavailable
from storage.repositories.outbox import UnsentMessage
from workers.wakeups.celery_app import ERRANDS, WAKE_TASK, make_app, queue_of

log = logging.getLogger(__name__)

#: A publish that takes longer has failed.
SOCKET_TIMEOUT_S = 2.0
#: Seconds without an attempt after a failed one.
PAUSE_S = 5.0
#: A wake-up older than this is dropped.
MESSAGE_AGE_MAX_S = 60.0
#: Sent rows are kept this long, for those who look into the outbox after an incident.
KEEP_SENT_S = 3600.0
_FORGET_EVERY_S = 600.0
_FOLD_EVERY_S = 60.0

Send = Callable[[str, str, int], None]


class RelayFailed(Exception):
    """Redis did not take the message."""


class CelerySender:
    """Publishes one wake-up; raises RelayFailed within a few seconds."""

    def __init__(self, redis_url: str) -> None:
        self._app: Celery = make_app(redis_url, socket_timeout_s=SOCKET_TIMEOUT_S, publish_only=True)

    def __call__(self, host: str, job_id: str, fence: int) -> None:
        try:
            self._app.send_task(WAKE_TASK, args=[job_id, fence], queue=queue_of(host), retry=False, ignore_result=True)
        except (BrokerError, RedisError, OSError) as error:
            raise RelayFailed(f"Redis did not take a wake-up: {error}") from error

    def close(self) -> None:
        self._app.close()


def drain(database: Database, send: Send) -> int:
    """Sends every unsent message; returns how many were dealt with. Raises RelayFailed with the rest left for later."""
    dealt_with = 0
    while True:
        with database.unit_of_work() as work:
            rows = work.outbox.unsent()
        if not rows:
            return dealt_with
        done: list[int] = []
        failure: RelayFailed | None = None
        for row in rows:
            # `schedule` has reached the scheduler by PostgreSQL's own notification.
            if row.topic in ("wake", "errand") and row.age_s < MESSAGE_AGE_MAX_S:
                try:
                    if failure is None:
                        send(*_wake_up(row))
                except RelayFailed as error:
                    failure = error
                if failure is not None:
                    continue
            done.append(row.id)
        with database.unit_of_work() as work:
            work.outbox.mark_sent(done)
        dealt_with += len(done)
        if failure is not None:
            raise failure


def _wake_up(row: UnsentMessage) -> tuple[str, str, int]:
    """Whom to wake, what to look at, and its fence; what waits of an errand is in its row."""
    if row.topic == "errand":
        return ERRANDS, row.payload["delivery_id"], 0
    return row.payload["host"], row.payload["job_id"], row.payload["fence"]


class Relay:
    """The relay's thread. `poke` when something was committed; `enabled` only while this scheduler leads."""

    def __init__(self, database: Database, send: Send) -> None:
        self._database = database
        self._send = send
        self._poked = threading.Event()
        self._stopped = threading.Event()
        self._forgot_at = float("-inf")
        self._folded_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def poke(self) -> None:
        self._poked.set()

    def stop(self) -> None:
        self._stopped.set()
        self._poked.set()
        self._thread.join(timeout=2 * SOCKET_TIMEOUT_S)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._poked.wait()
            self._poked.clear()
            try:
                drain(self._database, self._send)
                self._tidy()
            except RelayFailed as error:
                log.warning("%s; hosts find their jobs in PostgreSQL meanwhile", error)
                self._stopped.wait(PAUSE_S)
            except DatabaseUnavailable as error:
                log.warning("the outbox waits: %s", error)
            except Exception:
                # Unforeseen; the thread must go on, for it is the only one that sends.
                log.exception("the outbox could not be drained")
                self._stopped.wait(PAUSE_S)

    def _tidy(self) -> None:
        now = time.monotonic()
        if now - self._folded_at > _FOLD_EVERY_S:
            self._folded_at = now
            with self._database.unit_of_work() as work:
                work.tallies.fold()
        if now - self._forgot_at > _FORGET_EVERY_S:
            self._forgot_at = now
            with self._database.unit_of_work() as work:
                work.outbox.forget_sent(KEEP_SENT_S)
