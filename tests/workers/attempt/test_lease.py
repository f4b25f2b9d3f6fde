from __future__ import annotations

import pytest

from jobspecs.lifecycle import JobState
from storage.database import DatabaseUnavailable
from storage.settings import LeaseTimes
from workers.attempt.lease import Lease
from workers.attempt.orders import Order, Orders

TIMES = LeaseTimes(lease_s=60, heartbeat_s=10, self_fence_s=45)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lease_answering(
    answers: list[JobState | Exception | None], clock: Clock, takes_s: float = 0.0
) -> tuple[Lease, Orders]:
    orders = Orders()

    def renew() -> JobState | None:
        clock.now += takes_s
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Lease(renew, orders, TIMES, clock), orders


def test_a_renewed_lease_is_not_overdue() -> None:
    clock = Clock()
    lease, orders = lease_answering([JobState.running] * 10, clock)
    for _ in range(10):
        clock.now += 40
        lease.beat()
        assert not lease.overdue
    assert orders.current is Order.none


def test_without_a_renewal_the_lease_is_overdue_before_the_database_lets_it_expire() -> None:
    clock = Clock()
    lease, _ = lease_answering([JobState.running, *[DatabaseUnavailable("away")] * 9], clock)
    lease.beat()
    for _ in range(4):
        clock.now += 11
        lease.beat()
    assert not lease.overdue
    clock.now += 2
    assert lease.overdue
    assert clock.now - 1000 < TIMES.lease_s


def test_a_lease_that_was_never_renewed_is_not_relied_on() -> None:
    lease, orders = lease_answering([DatabaseUnavailable("away"), JobState.running], Clock())
    assert lease.overdue
    lease.beat()
    assert lease.overdue
    lease.beat()
    assert not lease.overdue
    assert orders.current is Order.none


def test_the_time_that_an_answer_took_does_not_count_as_renewed() -> None:
    clock = Clock()
    lease, _ = lease_answering([JobState.running], clock, takes_s=46)
    lease.beat()
    assert lease.overdue


@pytest.mark.parametrize(
    ("answer", "order"),
    [
        (None, Order.fenced),
        (JobState.cancelling, Order.cancel),
        (JobState.preempting, Order.preempt),
        (JobState.uploading, Order.none),
    ],
)
def test_a_renewals_answer_carries_orders(answer: JobState | None, order: Order) -> None:
    lease, orders = lease_answering([answer], Clock())
    lease.beat()
    assert orders.current is order


def test_a_weaker_order_does_not_replace_a_stronger_one() -> None:
    orders = Orders()
    orders.give(Order.cancel)
    orders.give(Order.preempt)
    assert orders.wait(0) is Order.cancel
    orders.give(Order.fenced)
    assert orders.wait(0) is Order.fenced


def test_waiting_ends_at_once_when_a_stronger_order_stands() -> None:
    orders = Orders()
    orders.give(Order.stop)
    assert orders.wait(60) is Order.stop
    assert orders.wait(0.01, above=Order.stop) is Order.stop
