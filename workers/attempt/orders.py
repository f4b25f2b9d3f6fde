"""What somebody wants of a running attempt. The strongest order stands."""

from __future__ import annotations

import threading
import time
from enum import IntEnum


class Order(IntEnum):
    """Rising strength: a fenced attempt is killed even if it was also asked to stop politely."""

    none = 0
    #: Write a checkpoint and give the place back: another job or the job's owner wants that.
    preempt = 1
    #: The worker stops: write a checkpoint.
    stop = 2
    #: A user cancelled the job.
    cancel = 3
    #: The job ran longer than its max_runtime.
    timeout = 4
    #: The lease is lost: another host may have the job. Kill at once and write nothing more.
    fenced = 5


class Orders:
    """The strongest order given so far; threads may wait for one."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._order = Order.none
        self._given_at = time.monotonic()

    @property
    def stands_s(self) -> float:
        """Seconds since the standing order was given."""
        return time.monotonic() - self._given_at

    @property
    def current(self) -> Order:
        return self._order

    def give(self, order: Order) -> None:
        """A weaker order than the standing one changes nothing."""
        with self._condition:
            if order > self._order:
                self._order = order
                self._given_at = time.monotonic()
                self._condition.notify_all()

    def wait(self, seconds: float, *, above: Order = Order.none) -> Order:
        """Waits up to `seconds` for an order stronger than `above`; returns what stands then."""
        end = time.monotonic() + seconds
        with self._condition:
            while self._order <= above and (rest := end - time.monotonic()) > 0:
                self._condition.wait(rest)
            return self._order
