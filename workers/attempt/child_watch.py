"""Watches a running child and carries out orders against it."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from workers.attempt.lease import Lease
from workers.attempt.orders import Order, Orders
from workers.process.zygote_client import ChildProcess

log = logging.getLogger(__name__)

#: Seconds between two looks at the lease and the clock; orders and the child's end are noticed at once or within this.
_LOOK_S = 0.1
#: Seconds until SIGKILL must have emptied the group. What outlives it hangs in the kernel (a driver, a dead disk).
_KILL_S = 15.0


class Unkillable(Exception):
    """A process outlived SIGKILL. Its host must not take jobs: the process still holds memory and perhaps a GPU."""


@contextmanager
def never_unwatched(child: ChildProcess) -> Iterator[None]:
    """Kills the child when the block fails, whatever the reason: nobody would watch it. Raises Unkillable as well."""
    try:
        yield
    except Unkillable:
        raise
    except BaseException:
        child.signal(signal.SIGKILL)
        _see_it_gone(child, time.monotonic)
        raise


class ChildWatch:
    """Waits for a child's end while orders may come. `clock` is monotonic seconds."""

    def __init__(
        self,
        child: ChildProcess,
        orders: Orders,
        lease: Lease,
        *,
        max_runtime_s: float,
        kill_grace_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._child = child
        self._orders = orders
        self._lease = lease
        self._grace_s = kill_grace_s
        self._clock = clock
        self._ends_at = clock() + max_runtime_s
        self._told = Order.none
        self._kill_at: float | None = None

    def wait(self) -> int:
        """Returns the child's wait status once nothing of its group is left. Raises Unkillable."""
        while not self._child.exited.wait(_LOOK_S):
            if self._lease.overdue:
                self._orders.give(Order.fenced)
            if self._clock() >= self._ends_at:
                self._orders.give(Order.timeout)
            self._carry_out(self._orders.current)
            if self._kill_at is not None and self._clock() >= self._kill_at:
                self._child.signal(signal.SIGKILL)
                break
        _see_it_gone(self._child, self._clock)
        status = self._child.status
        if status is None:
            raise Unkillable(f"child {self._child.pid} ended without a status")
        return status

    def _carry_out(self, order: Order) -> None:
        if order <= self._told:
            return
        self._told = order
        if order is Order.fenced:
            log.warning("child %d: the lease is lost; killing it", self._child.pid)
            self._child.signal(signal.SIGKILL)
            self._kill_at = self._clock()
        elif order in (Order.cancel, Order.timeout):
            self._child.signal(signal.SIGTERM)
            self._kill_at = self._clock() + self._grace_s
        elif order in (Order.preempt, Order.stop):
            self._child.signal(signal.SIGUSR1)
            self._kill_at = self._clock() + self._grace_s


def _see_it_gone(child: ChildProcess, clock: Callable[[], float]) -> None:
    deadline = clock() + _KILL_S
    while not child.is_gone():
        if clock() >= deadline:
            raise Unkillable(f"processes of group {child.pid} outlive SIGKILL")
        child.exited.wait(_LOOK_S)
        if child.exited.is_set():
            time.sleep(_LOOK_S / 10)
