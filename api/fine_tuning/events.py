"""What happens to a fine-tuning job, the newest first: its changes of state and what its process says, as one list.

An event's id is a place in both (`api.jobs.cursors.Position`), with a letter for the one that it is of: so the next
page is known from the last id alone.
"""

from __future__ import annotations

import heapq
from datetime import datetime
from typing import Any, Literal

from api.errors import ApiError
from api.fine_tuning.schemas import FineTuningEvent
from api.jobs.cursors import Happening, Position, parse_cursor
from api.jobs.presenting import state_change
from jobspecs.events import (
    CheckpointEvent,
    FailureEvent,
    LogEvent,
    MetricEvent,
    ProgressEvent,
    RecordedEvent,
    StageEvent,
    StateChange,
)
from jobspecs.lifecycle import JobState
from storage.database import UnitOfWork
from storage.tables import JobRow

Told = tuple[Literal["message", "metrics"], str, dict[str, Any]]

_PREFIX = "ftevent-"
_STATE, _SAID = "s", "e"
#: Behind the newest event of any job.
_END = Position(2**31 - 1, 2**31 - 1, 2**31 - 1)
_LEVELS: dict[str, Literal["info", "warn", "error"]] = {"warning": "warn", "error": "error"}


def events_of(work: UnitOfWork, row: JobRow, after: str | None, limit: int) -> tuple[list[FineTuningEvent], bool]:
    """A page, and whether more lies behind it. Raises ApiError 400 for what is no event's id."""
    kind, last = _place(after)
    seq = last.seq - (kind == _STATE)
    number = last.number - (kind == _SAID)
    changes = [state_change(step) for step in reversed(work.jobs.transitions_after(row.id)) if step.seq <= seq]
    said = work.events.before(row.id, last.fence, number, limit=limit + 1)
    merged: list[Happening] = list(heapq.merge(changes, said, key=_time, reverse=True))
    events = []
    for index, happening in enumerate(merged[:limit]):
        older = merged[index + 1 :]
        place = _before(older).after(happening)
        events.append(_told(happening, place))
    return events, len(merged) > limit


def _time(happening: Any) -> datetime:
    at: datetime = happening.at
    return at


def _before(older: list[Happening]) -> Position:
    """The place behind all of these."""
    change = next((one for one in older if isinstance(one, StateChange)), None)
    said = next((one for one in older if isinstance(one, RecordedEvent)), None)
    place = Position() if change is None else Position().after(change)
    return place if said is None else place.after(said)


def _place(after: str | None) -> tuple[str, Position]:
    if after is None:
        return "", _END
    kind = after.removeprefix(_PREFIX)[:1]
    place = parse_cursor(after.removeprefix(_PREFIX)[1:])
    if not after.startswith(_PREFIX) or kind not in (_STATE, _SAID) or place is None or not after[len(_PREFIX) + 1 :]:
        raise ApiError(400, f"{after[:100]!r} is the id of no event.", param="after")
    return kind, place


def _told(happening: Happening, place: Position) -> FineTuningEvent:
    is_change = isinstance(happening, StateChange)
    kind, message, data = _of_change(happening) if isinstance(happening, StateChange) else _of_event(happening.event)
    return FineTuningEvent(
        id=f"{_PREFIX}{_STATE if is_change else _SAID}{place}",
        created_at=int(happening.at.timestamp()),
        level=_level(happening),
        message=message,
        type=kind,
        data=data,
    )


def _level(happening: Happening) -> Literal["info", "warn", "error"]:
    if isinstance(happening, StateChange):
        return "error" if happening.state == JobState.failed else "info"
    event = happening.event
    if isinstance(event, FailureEvent):
        return "error"
    return _LEVELS.get(event.level, "info") if isinstance(event, LogEvent) else "info"


def _of_change(change: StateChange) -> Told:
    why = ": ".join(part for part in (change.reason, change.message) if part)
    message = f"The job is {change.state}" + (f" ({why})." if why else ".")
    return "message", message, {"state": change.state, "reason": change.reason, "attempt": change.fence}


def _of_event(event: object) -> Told:
    if isinstance(event, ProgressEvent):
        data = {
            "step": event.step,
            "total_steps": event.steps_total,
            "train_loss": event.loss,
            "learning_rate": event.learning_rate,
        }
        return "metrics", f"Step {event.step}/{event.steps_total}: training loss={event.loss:.4g}", data
    if isinstance(event, MetricEvent):
        return "metrics", f"{event.name}={event.value:.4g}", {"step": event.step, event.name: event.value}
    if isinstance(event, CheckpointEvent):
        return "message", f"Checkpoint at step {event.step}", {"step": event.step}
    if isinstance(event, StageEvent):
        return "message", f"Stage: {event.stage}", {"stage": event.stage}
    if isinstance(event, FailureEvent):
        return "message", event.message, {"reason": event.reason}
    return "message", event.message if isinstance(event, LogEvent) else str(event), {}
