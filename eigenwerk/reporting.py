"""What came out of a job, in lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eigenwerk.resources import JobResult


def columns(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned text, one line per row. Without headers when all of them are empty."""
    table = [list(headers), *(list(row) for row in rows)] if any(headers) else [list(row) for row in rows]
    widths = [max(len(row[index]) for row in table) for index in range(len(headers))] if table else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def result_lines(result: JobResult) -> list[str]:
    """The registered model, and how good it is beside the baselines on the same held-out rows."""
    lines = [f"model     {result.model}" if result.model else f"dataset   {result.dataset}"]
    verdict = result.report.get("verdict")
    if not isinstance(verdict, Mapping):
        return lines + [f"{name} = {value:.4g}" for name, value in sorted(result.metrics.items())]
    if "systems" in verdict:
        lines += ["", *columns(["system", str(verdict["metric"]), "95 % interval"], system_rows(verdict))]
    else:
        lines += ["", *columns(["system", "accuracy", "95 % interval", "macro F1"], score_rows(verdict))]
    if sentence := verdict.get("sentence"):
        lines += ["", str(sentence)]
    return lines


def score_rows(verdict: Mapping[str, Any]) -> list[list[str]]:
    """One row per system: the model first, then the baselines."""
    return [
        [
            str(score["system"]),
            f"{score['accuracy']:.1%}",
            f"{score['accuracy_low']:.1%} to {score['accuracy_high']:.1%}",
            f"{score['macro_f1']:.3f}",
        ]
        for score in (verdict["model"], *verdict["baselines"])
    ]


def system_rows(verdict: Mapping[str, Any]) -> list[list[str]]:
    """One row per system of a verdict over a single metric; without an interval where none is known."""

    def figure(value: float) -> str:
        return f"{value:.4f}"

    return [
        [
            str(system["system"]),
            figure(system["value"]),
            f"{figure(system['low'])} to {figure(system['high'])}" if system.get("low") is not None else "",
        ]
        for system in verdict["systems"]
    ]


def size(count: int) -> str:
    """`532 B`, `1.4 kB`, `88.2 MB`: powers of 1000."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
