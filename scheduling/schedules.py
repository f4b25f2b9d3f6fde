"""Which of a schedule's times are to run now: those that came since the last look, by the rule for missed ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice, takewhile

from scheduling.cron import Cron

#: A time counts as missed when it is this long ago: a scheduler is replaced within seconds.
GRACE = timedelta(minutes=1)
#: Of missed times at most so many are made up for, the latest.
ALL_MAX = 24


class Missed(StrEnum):
    """What becomes of times at which no scheduler ran: none of them, one for all of them, or each (24 at most)."""

    skip = "skip"
    once = "once"
    all = "all"


@dataclass(frozen=True)
class Due:
    """`times`: to run now, the earliest first; `next_at`: when to look again."""

    times: tuple[datetime, ...]
    next_at: datetime


def due(cron: Cron, next_at: datetime, now: datetime, missed: Missed) -> Due:
    """`next_at`: the first time that was not looked at yet. No time is given twice by looks that follow each other."""
    if next_at > now:
        return Due((), next_at)
    # The rules of the zone may have changed since `next_at` was written down; it is kept then.
    times = list(islice(takewhile(lambda time: time >= next_at, cron.until(now)), ALL_MAX)) or [next_at]
    if missed is Missed.skip:
        times = [time for time in times if now - time <= GRACE]
    elif missed is Missed.once:
        times = times[:1]
    return Due(tuple(reversed(times)), next(cron.after(now)))
