"""A sweep as SVG: the figure of each trial in the order in which they began, and the best so far. No script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Literal

from api.sweeps.schemas import Trial
from jobspecs.sweeps.space import told_values

#: Pixels: of the picture, and of what is round the curve.
_WIDTH, _HEIGHT, _LEFT, _ROUND = 640, 280, 72, 28


def svg(name: str, metric: str, goal: Literal["max", "min"], trials: Sequence[Trial], winner: int | None) -> str:
    """Trials that measured nothing are left out; of none, an empty frame."""
    measured = sorted((trial for trial in trials if trial.value is not None), key=lambda trial: trial.number)
    values = [float(trial.value or 0.0) for trial in measured]
    ends = [end for trial in measured for end in (trial.low, trial.high) if end is not None]
    low, high = min([*values, *ends], default=0.0), max([*values, *ends], default=1.0)
    scale = _Scale(low, high, max((trial.number for trial in trials), default=1))
    drawn = "\n".join([*_axis(scale, metric), *_best(scale, measured, goal), *_dots(scale, measured, winner)])
    told = escape(f"{name}: {metric} of {len(measured)} trials")
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" \
viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" font-family="sans-serif" font-size="12">
<title>{told}</title>
<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>
{drawn}
</svg>
"""


class _Scale:
    """From trials and figures to pixels."""

    def __init__(self, low: float, high: float, trials: int) -> None:
        self.low, self.high, self.trials = low, high if high > low else low + 1.0, trials

    def x(self, number: int) -> float:
        share = (number - 1) / (self.trials - 1) if self.trials > 1 else 0.5
        return round(_LEFT + share * (_WIDTH - _LEFT - _ROUND), 1)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(_HEIGHT - _ROUND - share * (_HEIGHT - 2 * _ROUND), 1)


def _axis(scale: _Scale, metric: str) -> Iterator[str]:
    for value in (scale.low, scale.high):
        y = scale.y(value)
        yield f'<line x1="{_LEFT - 4}" x2="{_WIDTH - _ROUND}" y1="{y}" y2="{y}" stroke="#ddd"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{value:.4g}</text>'
    yield f'<text x="{_LEFT}" y="16" font-weight="bold">{escape(metric)}</text>'
    yield f'<text x="{_WIDTH - _ROUND}" y="{_HEIGHT - 8}" text-anchor="end">trial {scale.trials}</text>'


def _best(scale: _Scale, trials: Sequence[Trial], goal: Literal["max", "min"]) -> Iterator[str]:
    """The best figure so far, as a line."""
    best, places = None, []
    for trial in trials:
        value = float(trial.value or 0.0)
        best = value if best is None else (max if goal == "max" else min)(best, value)
        places.append(f"{scale.x(trial.number)},{scale.y(best)}")
    if places:
        yield f'<polyline points="{" ".join(places)}" fill="none" stroke="#1f5fa8"/>'


def _dots(scale: _Scale, trials: Sequence[Trial], winner: int | None) -> Iterator[str]:
    for trial in trials:
        x, y = scale.x(trial.number), scale.y(float(trial.value or 0.0))
        colour = "#2c7a2c" if trial.number == winner else "#888"
        said = escape(f"trial {trial.number}: {trial.value:.4g}, {told_values(trial.values)}")
        interval = ""
        if trial.low is not None and trial.high is not None:
            ends = f'y1="{scale.y(trial.low)}" y2="{scale.y(trial.high)}"'
            interval = f'<line x1="{x}" x2="{x}" {ends} stroke="{colour}" stroke-opacity="0.4"/>'
        yield f'<g><title>{said}</title>{interval}<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/></g>'
