"""A pipeline as SVG: its steps as boxes in columns, each right of all that it waits for. No script, no foreign text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from jobspecs.pipelines.lifecycle import StepState
from jobspecs.pipelines.order import in_order
from storage.tables import PipelineStepRow

#: Pixels: of a box, of what lies between boxes, and round all of them.
_WIDTH, _HEIGHT, _ACROSS, _DOWN, _ROUND = 180, 56, 56, 20, 16
#: Characters that a box has room for.
_CHARS = 24
_COLOURS = {
    StepState.waiting: ("#f4f4f4", "#888"),
    StepState.running: ("#e3eefb", "#1f5fa8"),
    StepState.succeeded: ("#e4f4e4", "#2c7a2c"),
    StepState.skipped: ("#fbf4dc", "#9a7a00"),
    StepState.failed: ("#fbe3e3", "#a82020"),
    StepState.cancelled: ("#fbe3e3", "#a82020"),
}


def svg(name: str, steps: Sequence[PipelineStepRow]) -> str:
    """One picture, as large as the graph is."""
    places = _places(steps)
    columns = 1 + max(x for x, _ in places.values())
    rows = 1 + max(y for _, y in places.values())
    width = 2 * _ROUND + columns * (_WIDTH + _ACROSS) - _ACROSS
    height = 2 * _ROUND + rows * (_HEIGHT + _DOWN) - _DOWN
    told = escape(f"{name}: " + ", ".join(f"{step.name} {step.state}" for step in steps))
    drawn = "\n".join([*_lines(steps, places), *(_box(step, *places[step.name]) for step in steps)])
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" \
viewBox="0 0 {width} {height}" role="img" font-family="sans-serif" font-size="12">
<title>{told}</title>
<rect width="{width}" height="{height}" fill="white"/>
{drawn}
</svg>
"""


def _places(steps: Sequence[PipelineStepRow]) -> dict[str, tuple[int, int]]:
    """Column and row of each step. A column is one more than the last of what the step needs."""
    needs = {step.name: step.needs for step in steps}
    columns: dict[str, int] = {}
    filled: dict[int, int] = {}
    found = {}
    for name in in_order(needs):
        column = columns[name] = 1 + max((columns[need] for need in needs[name]), default=-1)
        found[name] = column, filled.get(column, 0)
        filled[column] = filled.get(column, 0) + 1
    return found


def _lines(steps: Sequence[PipelineStepRow], places: dict[str, tuple[int, int]]) -> Iterator[str]:
    for step in steps:
        x, y = _corner(*places[step.name])
        for need in step.needs:
            from_x, from_y = _corner(*places[need])
            begin, end = (from_x + _WIDTH, from_y + _HEIGHT // 2), (x, y + _HEIGHT // 2)
            bend = _ACROSS // 2
            curve = f"M{begin[0]} {begin[1]}C{begin[0] + bend} {begin[1]} {end[0] - bend} {end[1]} {end[0]} {end[1]}"
            yield f'<path d="{curve}" fill="none" stroke="#999"/>'


def _box(step: PipelineStepRow, column: int, row: int) -> str:
    x, y = _corner(column, row)
    fill, stroke = _COLOURS[StepState(step.state)]
    lines = (step.name, step.kind, step.state + (f" ({step.reason})" if step.reason else ""))
    texts = "".join(
        f'<text x="{x + 8}" y="{y + 16 + 16 * number}"{_WEIGHTS[number]}>{escape(_cut(line))}</text>'
        for number, line in enumerate(lines)
    )
    box = f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="4" fill="{fill}" stroke="{stroke}"/>'
    return f"<g><title>{escape(step.message or step.state)}</title>{box}{texts}</g>"


#: The first line of a box, its name, stands out.
_WEIGHTS = (' font-weight="bold"', "", "")


def _corner(column: int, row: int) -> tuple[int, int]:
    return _ROUND + column * (_WIDTH + _ACROSS), _ROUND + row * (_HEIGHT + _DOWN)


def _cut(text: str) -> str:
    return text if len(text) <= _CHARS else f"{text[: _CHARS - 1]}…"
