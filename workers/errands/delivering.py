"""Sends what is due: as many deliveries at once as there are threads, one at a time to each webhook.

An errand is repeatable: it claims a row, sends it, writes down what came of it, each in a step of its own. Who dies
between sending and writing leaves a claim that runs out, and the delivery is sent again under the same id.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from jobspecs.webhooks import signed_headers
from storage.database import Database, DatabaseUnavailable
from storage.repositories.deliveries import Claimed, Outcome
from storage.secret_box import KEY_VARIABLE, SecretBox, SecretUnreadable
from workers.errands.sending import Sender

log = logging.getLogger(__name__)

SENDERS_MAX = 8
#: Seconds for which nobody else sends to the webhook: an answer takes far less, and so does resolving a name.
LEASE_S = 60.0
#: Seconds for which a delivery can be looked at and sent again.
KEPT_S = 30 * 24 * 3600.0
_FORGET_EVERY_S = 3600.0


def deliver(
    database: Database, sender: Sender, box: SecretBox | None, claimed: Claimed, now_s: Callable[[], float] = time.time
) -> Outcome:
    """Sends one claimed delivery and writes down what came of it. `now_s`: seconds since 1970."""
    outcome = _send(sender, box, claimed, int(now_s()))
    with database.unit_of_work() as work:
        work.deliveries.record(claimed, outcome)
    return outcome


def _send(sender: Sender, box: SecretBox | None, claimed: Claimed, now_s: int) -> Outcome:
    if box is None:
        return Outcome(None, f"Not sent: the secret that signs can't be opened, for {KEY_VARIABLE} is not set.", 0.0)
    try:
        secrets = [box.open(claimed.owner_id, sealed) for sealed in claimed.sealed_secrets]
    except SecretUnreadable as error:
        return Outcome(None, f"Not sent: the secret that signs can't be opened. {error}", 0.0)
    body = claimed.body.encode()
    return sender.post(claimed.url, signed_headers(secrets, claimed.message_id, now_s, body), body)


class Errands:
    """The loop that hands out what is due. `poke` when something may be; ends when `stop` is set."""

    def __init__(self, database: Database, sender: Sender, box: SecretBox | None, *, poll_s: float) -> None:
        self._database = database
        self._sender = sender
        self._box = box
        self._poll_s = poll_s
        self._poked = threading.Event()
        self._places = threading.Semaphore(SENDERS_MAX)
        self._forgot_at = float("-inf")
        self.stop = threading.Event()

    def poke(self) -> None:
        self._poked.set()

    def end(self) -> None:
        """What is being sent is finished."""
        self.stop.set()
        self._poked.set()

    def run(self, alive: Callable[[], None]) -> None:
        with ThreadPoolExecutor(SENDERS_MAX, thread_name_prefix="errand") as pool:
            while not self.stop.is_set():
                alive()
                self._poked.clear()
                try:
                    self._hand_out(pool)
                    self._tidy()
                except DatabaseUnavailable as error:
                    log.warning("errands wait: %s", error)
                self._poked.wait(self._poll_s)

    def _hand_out(self, pool: ThreadPoolExecutor) -> None:
        while not self.stop.is_set() and self._places.acquire(blocking=False):
            claimed = None
            try:
                with self._database.unit_of_work() as work:
                    claimed = work.deliveries.claim(lease_s=LEASE_S)
            finally:
                if claimed is None:
                    self._places.release()
            if claimed is None:
                return
            pool.submit(self._run, claimed)

    def _run(self, claimed: Claimed) -> None:
        try:
            outcome = deliver(self._database, self._sender, self._box, claimed)
            level = logging.INFO if outcome.delivered else logging.WARNING
            told = outcome.error or f"delivered ({outcome.status})"
            log.log(level, "delivery %s, attempt %d: %s", claimed.id, claimed.attempt, told)
        except DatabaseUnavailable as error:
            log.warning("what came of delivery %s is not written down, so it is sent again: %s", claimed.id, error)
        except Exception:
            # Unforeseen; its claim runs out, and it is tried again.
            log.exception("delivery %s could not be sent", claimed.id)
        finally:
            self._places.release()
            self.poke()

    def _tidy(self) -> None:
        now = time.monotonic()
        if now - self._forgot_at > _FORGET_EVERY_S:
            self._forgot_at = now
            with self._database.unit_of_work() as work:
                work.deliveries.forget(KEPT_S)
