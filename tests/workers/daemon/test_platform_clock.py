from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from workers.daemon.platform_clock import PlatformClock

DATABASE = datetime(2026, 3, 1, tzinfo=UTC)


class Machine:
    """Its wall clock is 20 minutes ahead, until somebody sets it."""

    def __init__(self) -> None:
        self.up_s = 1000.0
        self.ahead_s = 1200.0

    def uptime_s(self) -> float:
        return self.up_s

    def wall_s(self) -> float:
        return DATABASE.timestamp() + self.up_s - 1000.0 + self.ahead_s


def test_the_platforms_time_goes_on_from_the_databases_whatever_the_wall_clock_says() -> None:
    machine = Machine()
    clock = PlatformClock(machine.uptime_s, machine.wall_s)

    def ask() -> datetime:
        machine.up_s += 0.5
        answer = DATABASE + timedelta(seconds=machine.up_s - 1000)
        machine.up_s += 0.5
        return answer

    clock.measure(ask)
    machine.up_s += 60
    assert clock.now() == DATABASE + timedelta(seconds=61)
    assert clock.wall_ahead_s == pytest.approx(1200)
    machine.ahead_s = -30
    assert clock.wall_ahead_s == pytest.approx(-30)
    assert clock.now() == DATABASE + timedelta(seconds=61)


def test_a_clock_that_was_not_measured_tells_no_time() -> None:
    with pytest.raises(RuntimeError, match="not measured"):
        PlatformClock().now()
