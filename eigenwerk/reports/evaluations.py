"""Evaluations of models, in lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eigenwerk.resources.models import Evaluation

#: Rows of each pair of models, and characters of a text and of what a model said of it.
_FLIPPED_MAX, _TEXT_CHARS, _SAID_CHARS = 5, 70, 40


def evaluation_lines(evaluations: Sequence[Evaluation]) -> list[str]:
    """What jobs have found of a model version, the newest first."""
    lines: list[str] = []
    for one in evaluations:
        figures = (
            f"{name} {figure.value:.4g} ({figure.low:.4g} to {figure.high:.4g})" for name, figure in one.figures.items()
        )
        lines += [
            "",
            f"{one.task} on {one.dataset}, {one.judged:,} {one.unit} ({one.created_at:%Y-%m-%d}): {', '.join(figures)}",
        ]
    return lines


def flipped_lines(report: Mapping[str, Any]) -> list[str]:
    """Of an evaluation's report: rows on which two models differ most."""
    lines: list[str] = []
    for pair in report.get("flipped") or ():
        if not pair["rows"]:
            continue
        lines += ["", f"Rows on which {pair['first']} and {pair['second']} differ most:", ""]
        for row in pair["rows"][:_FLIPPED_MAX]:
            said = " | ".join(_said(row, which) for which in ("first", "second"))
            wanted = "" if row["wanted"] is None else f" (right: {_cut(str(row['wanted']), _SAID_CHARS)})"
            lines.append(f"row {row['row']}{wanted}: {_cut(str(row['text']), _TEXT_CHARS)}")
            lines.append(f"    {said}")
    return lines


def _said(row: Mapping[str, Any], which: str) -> str:
    said = row.get(f"{which}_said")
    return _cut(str(said), _SAID_CHARS) if said is not None else f"{row[which]:.3f}"


def _cut(text: str, chars: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= chars else line[: chars - 1] + "…"
