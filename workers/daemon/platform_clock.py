"""The platform's time on a host: the database's clock, as measured at the last heartbeat.

A host's wall clock may be wrong by hours. It is compared, because the object store refuses signatures of a wrong time,
and never asked what time it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


def _uptime_s() -> float:
    """Seconds that go on while the machine is suspended, which time.monotonic does not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class PlatformClock:
    """Measure before asking. Half the time that the database takes to answer is the error, a millisecond or so."""

    def __init__(self, uptime_s: Callable[[], float] = _uptime_s, wall_s: Callable[[], float] = time.time) -> None:
        self._uptime_s = uptime_s
        self._wall_s = wall_s
        #: The database's time when the host had been up for so many seconds.
        self._measured: tuple[datetime, float] | None = None

    def measure(self, ask: Callable[[], datetime]) -> None:
        """`ask` returns the database's clock."""
        asked_at = self._uptime_s()
        answer = ask()
        self._measured = answer, (asked_at + self._uptime_s()) / 2

    def now(self) -> datetime:
        """Raises RuntimeError before the first measurement."""
        if self._measured is None:
            raise RuntimeError("the database's clock was not measured yet")
        answer, at_s = self._measured
        return answer + timedelta(seconds=self._uptime_s() - at_s)

    @property
    def wall_ahead_s(self) -> float:
        """Seconds by which the host's wall clock is ahead of the database's; negative when it is behind."""
        return (datetime.fromtimestamp(self._wall_s(), UTC) - self.now()).total_seconds()
