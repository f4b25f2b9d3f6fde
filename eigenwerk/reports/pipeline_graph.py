"""A pipeline as text: its steps as a tree, each below what it waits for last, with state, time and result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from eigenwerk.reports.reporting import columns
from eigenwerk.reports.watch import duration, figures, steps
from eigenwerk.resources.pipelines import PipelineStep
from jobspecs.pipelines.order import in_order

_SIGNS = {"waiting": "·", "running": "▶", "succeeded": "✔", "skipped": "–", "failed": "✘", "cancelled": "✘"}


def graph_lines(shown: Sequence[PipelineStep]) -> list[str]:
    """One line per step. What a step needs beside the one that it hangs on is in parentheses."""
    above = _above(shown)
    rows = [
        [
            f"{branch}{_SIGNS.get(step.state, '?')} {step.name}{_others(step, hangs_on, above)}",
            step.kind,
            step.state,
            told(step),
        ]
        for branch, step, hangs_on in _tree(shown)
    ]
    return [line.rstrip() for line in columns(["STEP", "KIND", "STATE", ""], rows)]


def told(step: PipelineStep) -> str:
    """What is known of a step in one line: time, progress, result, and why it is where it is."""
    parts = [_time(step)]
    if step.progress is not None and step.state == "running":
        parts.append(f"{step.progress.stage} {steps(step.progress)}  {figures(step.progress)}".strip())
    elif step.state == "running" and step.job_state is not None:
        parts.append(f"job {step.job_state}")
    if step.result is not None:
        parts.append(step.result.reference)
    parts.append(": ".join(part for part in (step.reason, step.message) if part))
    return "  ".join(part for part in parts if part)


def _time(step: PipelineStep) -> str:
    if step.started_at is None:
        return ""
    return duration(((step.finished_at or datetime.now(UTC)) - step.started_at).total_seconds())


def _above(shown: Sequence[PipelineStep]) -> dict[str, set[str]]:
    """All that each step waits for, near and far."""
    by_name, found = {step.name: step for step in shown}, dict[str, set[str]]()
    for name in in_order({step.name: step.needs for step in shown}):
        needs = by_name[name].needs
        found[name] = {*needs}.union(*(found[need] for need in needs))
    return found


def _others(step: PipelineStep, hangs_on: str | None, above: Mapping[str, set[str]]) -> str:
    """What it needs beside the step that it hangs on, and that this one has not waited for."""
    known = above[hangs_on] | {hangs_on} if hangs_on is not None else set()
    others = [name for name in step.needs if name not in known]
    return f" (and {', '.join(others)})" if others else ""


def _tree(shown: Sequence[PipelineStep]) -> Iterator[tuple[str, PipelineStep, str | None]]:
    """Branch, step, and the step that it hangs on: of all that it needs, the one at the end of the longest way."""
    by_name = {step.name: step for step in shown}
    depths: dict[str, int] = {}
    parents: dict[str, str | None] = {}
    for name in in_order({step.name: step.needs for step in shown}):
        parents[name] = max(by_name[name].needs, key=lambda need: depths[need], default=None)
        depths[name] = 1 + max((depths[need] for need in by_name[name].needs), default=-1)
    below: dict[str | None, list[str]] = {}
    for step in shown:
        below.setdefault(parents[step.name], []).append(step.name)
    stack: list[tuple[str, str, str | None, bool]] = [("", name, None, False) for name in reversed(below.get(None, []))]
    while stack:
        indent, name, parent, last = stack.pop()
        branch = "" if parent is None else indent + ("└ " if last else "├ ")
        yield branch, by_name[name], parent
        inner = "" if parent is None else indent + ("  " if last else "│ ")
        children = below.get(name, [])
        stack += [(inner, child, name, index == len(children) - 1) for index, child in enumerate(children)][::-1]
