"""How loss and figures went while a model trained, as SVG: numbers and names of ours, no script, no foreign text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from uuid import UUID

from jobspecs.events import MetricEvent, ProgressEvent, RecordedEvent
from storage.database import UnitOfWork

#: Events that are read of one job, and points that are drawn of one curve.
_EVENTS_MAX = 20_000
_PAGE_EVENTS = 1000
_POINTS_MAX = 400
_LOSS = "loss"
#: Pixels: of the picture, and of what the axes leave round the curve.
_WIDTH, _HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 28, 32


@dataclass(frozen=True)
class Curve:
    """A figure by training step."""

    name: str
    #: (step, value), by step; two at least.
    points: Sequence[tuple[int, float]]

    @property
    def file_name(self) -> str:
        """`validation/accuracy` is in validation-accuracy.svg."""
        return "".join(character if character.isalnum() else "-" for character in self.name) + ".svg"


def curves_of(work: UnitOfWork, job_id: UUID | None) -> list[Curve]:
    """Loss first, then what was measured more than once; none when the job, or what it told, is gone."""
    return curves(_events(work, job_id)) if job_id is not None else []


def curves(events: Iterable[RecordedEvent]) -> list[Curve]:
    """What a later attempt told of a step counts: it went on from a checkpoint before it."""
    found: dict[str, dict[int, float]] = {_LOSS: {}}
    for recorded in events:
        event = recorded.event
        if isinstance(event, ProgressEvent) and event.loss is not None and math.isfinite(event.loss):
            found[_LOSS][event.step] = event.loss
        elif isinstance(event, MetricEvent) and event.step is not None and math.isfinite(event.value):
            found.setdefault(event.name, {})[event.step] = event.value
    return [Curve(name, _thinned(sorted(values.items()))) for name, values in found.items() if len(values) > 1]


def svg(curve: Curve) -> str:
    """A picture of 640 by 240 pixels."""
    steps = [step for step, _ in curve.points]
    values = [value for _, value in curve.points]
    low, high = min(values), max(values)
    across = (_WIDTH - _LEFT - _RIGHT) / max(1, steps[-1] - steps[0])
    down = (_HEIGHT - _TOP - _BOTTOM) / (high - low if high > low else 1.0)
    line = " ".join(f"{_LEFT + (x - steps[0]) * across:.1f},{_TOP + (high - y) * down:.1f}" for x, y in curve.points)
    base = _HEIGHT - _BOTTOM
    title = escape(f"{curve.name}: {values[0]:.4g} at step {steps[0]}, {values[-1]:.4g} at step {steps[-1]}")
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" \
viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" font-family="sans-serif" font-size="12">
<title>{title}</title>
<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>
<text x="{_LEFT}" y="18" font-size="13">{escape(curve.name)}</text>
<path d="M{_LEFT} {_TOP}V{base}H{_WIDTH - _RIGHT}" fill="none" stroke="#999"/>
<text x="{_LEFT - 6}" y="{_TOP + 4}" text-anchor="end">{high:.4g}</text>
<text x="{_LEFT - 6}" y="{base}" text-anchor="end">{low:.4g}</text>
<text x="{_LEFT}" y="{base + 18}">{steps[0]}</text>
<text x="{_WIDTH - _RIGHT}" y="{base + 18}" text-anchor="end">step {steps[-1]}</text>
<polyline points="{line}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>
</svg>
"""


def _events(work: UnitOfWork, job_id: UUID) -> list[RecordedEvent]:
    found: list[RecordedEvent] = []
    while len(found) < _EVENTS_MAX:
        last = (found[-1].fence, found[-1].number) if found else (0, -1)
        page = work.events.after(job_id, *last, limit=_PAGE_EVENTS, kinds=("progress", "metric"))
        found += page
        if len(page) < _PAGE_EVENTS:
            break
    return found


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most _POINTS_MAX of them, evenly by their places, the last one among them."""
    each = math.ceil(len(points) / _POINTS_MAX)
    return [*points[:-1:each], points[-1]]
