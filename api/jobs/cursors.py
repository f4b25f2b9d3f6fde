"""Where a watcher stands in a job's history: `<transition seq>.<fence>-<number>`.

State changes and a child's events are two sequences with an order of their own, so the place is a pair. What follows it
is known from the pair alone: a watcher that comes back misses nothing and gets nothing twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from jobspecs.events import RecordedEvent, StateChange

#: Up to 9 digits: more than any job has, and an integer for PostgreSQL.
_CURSOR = re.compile(r"(?:(\d{1,9})\.)?(\d{1,9})-(\d{1,9})", re.ASCII)

Happening = StateChange | RecordedEvent


@dataclass(frozen=True, slots=True)
class Position:
    """The last transition and the last event that the watcher has. `number` is -1 before the first event."""

    seq: int = 0
    fence: int = 0
    number: int = -1

    def __str__(self) -> str:
        return f"{self.seq}.{self.fence}-{max(self.number, 0)}"

    def after(self, happening: Happening) -> Position:
        if isinstance(happening, StateChange):
            return replace(self, seq=happening.seq)
        return replace(self, fence=happening.fence, number=happening.number)

    def is_next(self, event: RecordedEvent) -> bool:
        """Whether nothing can lie between this place and the event: the same attempt, the next number."""
        return event.fence == self.fence and event.number == self.number + 1


def parse_cursor(text: str | None) -> Position | None:
    """The place that a cursor names; the beginning without one; None when it is malformed."""
    if not text:
        return Position()
    match = _CURSOR.fullmatch(text)
    if match is None:
        return None
    seq, fence, number = int(match[1] or 0), int(match[2]), int(match[3])
    # Fence 0 has no events: the place is before the first.
    return Position(seq, fence, number if fence else -1)
