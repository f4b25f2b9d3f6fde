"""Cron expressions in a time zone: which moments they mean.

An expression speaks of what clocks show. Where clocks are put forward, a time that they never show means the moment of
the change; where they are put back, one that they show twice means the first of both. So each time that is written down
happens once a day, and the order of clock times is the order of moments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterBadDateError, CroniterError, croniter

_FIELDS = 5
_MACROS = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
#: Words of croniter's own that stand for a number by chance.
_BY_CHANCE = re.compile(r"\b[hr]\b", re.IGNORECASE)
_SECOND = timedelta(seconds=1)


class BadCron(ValueError):
    """`field`: `cron` or `time_zone`. The message is for people."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Cron:
    """Made by `parse`. Moments are in UTC."""

    expression: str
    zone: ZoneInfo

    @classmethod
    def parse(cls, expression: str, time_zone: str) -> Cron:
        """Raises BadCron for what is no expression or zone, and for one that never happens, such as 30 February."""
        text = " ".join(expression.split())
        if text not in _MACROS and (len(text.split()) != _FIELDS or text[0] == "@"):
            raise BadCron("cron", "it has five fields: minute, hour, day of month, month, day of week.")
        if _BY_CHANCE.search(text):
            raise BadCron("cron", "H and R leave a time to chance; name it.")
        try:
            zone = ZoneInfo(time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise BadCron("time_zone", "there is no such time zone; write one such as Europe/Berlin.") from error
        made = cls(text, zone)
        try:
            next(made.after(datetime(2000, 1, 1, tzinfo=UTC)))
        except CroniterBadDateError as error:
            raise BadCron("cron", "it never happens: there is no such day.") from error
        except CroniterError as error:
            raise BadCron("cron", f"it is no cron expression: {str(error)[:200]}.") from error
        return made

    def after(self, moment: datetime) -> Iterator[datetime]:
        """All moments after this one, the soonest first."""
        last = moment
        clock = croniter(self.expression, self._shown_at(moment))
        while True:
            found = self._moment_of(clock.get_next(datetime))
            if found > last:
                last = found
                yield found

    def until(self, moment: datetime) -> Iterator[datetime]:
        """All moments up to and with this one, the latest first."""
        last: datetime | None = None
        shown = moment.astimezone(self.zone)
        # Behind a change back, clocks have shown more than they show.
        ahead = (shown.replace(fold=0).utcoffset() or timedelta()) - (shown.utcoffset() or timedelta())
        clock = croniter(self.expression, self._shown_at(moment) + max(ahead, timedelta()) + _SECOND)
        while True:
            found = self._moment_of(clock.get_prev(datetime))
            if found <= moment and (last is None or found < last):
                last = found
                yield found

    def next_five(self, moment: datetime) -> list[datetime]:
        return list(islice(self.after(moment), 5))

    def _shown_at(self, moment: datetime) -> datetime:
        """What clocks show, without a zone."""
        return moment.astimezone(self.zone).replace(tzinfo=None, fold=0)

    def _moment_of(self, shown: datetime) -> datetime:
        """The first moment at which clocks show this; the moment of the change when they never do."""
        first = shown.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
        if self._shown_at(first) == shown:
            return first
        # Clocks jump over it: the change lies between the moments that the offsets after and before it give.
        early_s, late_s = int(shown.replace(tzinfo=self.zone, fold=1).timestamp()), int(first.timestamp())
        before = self._offset_at(early_s)
        while late_s - early_s > 1:
            middle_s = (early_s + late_s) // 2
            if self._offset_at(middle_s) == before:
                early_s = middle_s
            else:
                late_s = middle_s
        return datetime.fromtimestamp(late_s, UTC)

    def _offset_at(self, moment_s: int) -> timedelta | None:
        return datetime.fromtimestamp(moment_s, self.zone).utcoffset()
