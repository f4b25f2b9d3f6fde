"""A sweep as text: its trials, the best first, the best figure so far as a curve, and what confirmed the winner."""

from __future__ import annotations

from collections.abc import Sequence

from eigenwerk.reports.reporting import columns
from eigenwerk.reports.watch import figures, steps
from eigenwerk.resources.sweeps import Sweep, Trial
from jobspecs.sweeps.space import told_values

_BLOCKS = "▁▂▃▄▅▆▇█"
#: Characters of the curve.
_CURVE_MAX = 60


def board_lines(sweep: Sweep, most: int | None = None) -> list[str]:
    """At most so many trials; all when None."""
    metric = sweep.metrics[0] if sweep.metrics else "value"
    shown = sweep.trials[:most]
    rows = [
        [
            str(trial.number),
            told_values(trial.values),
            _number(trial.value),
            interval(trial),
            " ".join(f"{loss:.4g}" for loss in trial.rungs) or "-",
            str(trial.steps or "-"),
            told(trial),
        ]
        for trial in shown
    ]
    lines = columns(["TRIAL", "VALUES", metric.upper(), "95 % INTERVAL", "LOSS AT RUNGS", "STEPS", ""], rows)
    if len(sweep.trials) > len(shown):
        lines.append(f"… and {len(sweep.trials) - len(shown)} more")
    if curve := best_so_far(sweep):
        lines += ["", f"best so far  {curve}"]
    return [*lines, *_ended(sweep, metric)]


def told(trial: Trial) -> str:
    """State, and what the trial does or why it is there."""
    parts = [trial.state]
    if trial.progress is not None and trial.state == "running":
        parts.append(f"{trial.progress.stage} {steps(trial.progress)}  {figures(trial.progress)}".strip())
    elif trial.state == "running" and trial.job_state is not None:
        parts.append(f"job {trial.job_state}")
    parts.append(": ".join(part for part in (trial.reason, trial.message) if part))
    return "  ".join(part for part in parts if part)


def interval(trial: Trial) -> str:
    if trial.low is None or trial.high is None:
        return "-"
    return f"{trial.low:.4f} to {trial.high:.4f}"


def best_so_far(sweep: Sweep) -> str:
    """A curve over the trials in the order in which they began, with its ends in numbers; empty below two figures."""
    measured = sorted((trial for trial in sweep.trials if trial.value is not None), key=lambda trial: trial.number)
    better = max if sweep.goal == "max" else min
    best: list[float] = []
    for trial in measured:
        value = float(trial.value or 0.0)
        best.append(better(best[-1], value) if best else value)
    if len(best) < 2:
        return ""
    return f"{best[0]:.4f} {_drawn(best)} {best[-1]:.4f}"


def _drawn(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    width = min(len(values), _CURVE_MAX)
    taken = [values[place * len(values) // width] for place in range(width)]
    if high == low:
        return _BLOCKS[0] * len(taken)
    return "".join(_BLOCKS[round((value - low) / (high - low) * (len(_BLOCKS) - 1))] for value in taken)


def _ended(sweep: Sweep, metric: str) -> list[str]:
    winner = next((trial for trial in sweep.trials if trial.number == sweep.winner), None)
    if winner is None:
        return []
    lines = ["", f"trial {winner.number} was the best: {told_values(winner.values)}"]
    confirmed = sweep.confirmation
    if confirmed is None:
        return [*lines, f"  model {winner.result}"] if winner.result else lines
    if confirmed.value is None:
        return [*lines, f"  being confirmed on rows that no trial saw: {told(confirmed)}"]
    return [
        *lines,
        f"  on rows that no trial saw: {metric} {_number(confirmed.value)} ({interval(confirmed)})",
        f"  model {confirmed.result}",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
