"""Keeps an attempt's lease alive, and says when it must be given up for lost.

The lease itself is in the database and runs by the database's clock. The host counts on its own monotonic clock from
the moment *before* it asked for a renewal, and gives up at `self_fence_s`, well before the database does at `lease_s`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from jobspecs.lifecycle import JobState
from storage.database import DatabaseUnavailable
from storage.settings import LeaseTimes
from workers.attempt.orders import Order, Orders

log = logging.getLogger(__name__)

#: What the job's state, as a renewal answers it, asks of the attempt.
_ORDER_OF_STATE = {
    JobState.cancelling: Order.cancel,
    JobState.preempting: Order.preempt,
    JobState.pausing: Order.preempt,
}


class Lease:
    """One attempt's lease. `renew` asks the database and returns the job's state, or None when the fence has passed."""

    def __init__(
        self,
        renew: Callable[[], JobState | None],
        orders: Orders,
        times: LeaseTimes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._renew = renew
        self._orders = orders
        self._times = times
        self._clock = clock
        #: When the lease was granted is known to the database only: it counts from the first renewal on.
        self._renewed_at = float("-inf")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="lease", daemon=True)

    def start(self) -> None:
        """Renews at once and then every heartbeat in a thread of its own."""
        self.beat()
        self._thread.start()

    def end(self) -> None:
        self._done.set()

    @property
    def overdue(self) -> bool:
        """No renewal succeeded for `self_fence_s`, or ever. Another thread asks than may hang in one."""
        return self._clock() - self._renewed_at > self._times.self_fence_s

    def beat(self) -> None:
        """One renewal; gives the orders that its answer carries."""
        asked_at = self._clock()
        try:
            state = self._renew()
        except DatabaseUnavailable as error:
            log.warning("the lease was not renewed: %s", error)
            return
        if state is None:
            self._orders.give(Order.fenced)
            return
        self._renewed_at = asked_at
        self.observe(state)

    def observe(self, state: JobState) -> None:
        """The job's state was read, here or elsewhere."""
        self._orders.give(_ORDER_OF_STATE.get(state, Order.none))

    def _beat_on(self) -> None:
        while not self._done.wait(self._times.heartbeat_s):
            try:
                self.beat()
            except Exception:
                # Unforeseen, and no renewal: `overdue` says so in time. The next one may succeed.
                log.exception("the lease was not renewed")
            if self._orders.current is Order.fenced:
                return
