from __future__ import annotations

import io

import pytest
from rich.console import Console

from eigenwerk import Event
from eigenwerk.reports.watch import PlainDisplay, describe, duration, figures, printable, watch_on
from jobspecs.events import ProgressEvent

EVENTS = [
    Event("1.0-0", "state", {"type": "state", "state": "queued"}),
    Event("2.1-1", "stage", {"type": "stage", "stage": "train"}),
    Event(
        "2.1-2",
        "progress",
        {
            **{"type": "progress", "stage": "train", "step": 5, "steps_total": 10, "loss": 0.61234, "eta_s": 75.0},
            **{"sequences_per_s": 101.6, "fence": 1, "number": 2, "at": "2026-03-01T12:00:00Z"},
        },
    ),
    Event("2.1-3", "log", {"type": "log", "level": "warning", "message": "odd \x1b[31mrow"}),
    Event("2.1-4", "log", {"type": "log", "level": "info", "message": "not shown"}),
    Event("3.1-4", "end", {"type": "state", "state": "succeeded"}),
]


def test_without_a_terminal_there_are_plain_lines() -> None:
    output = io.StringIO()
    last = watch_on(Console(file=output, width=200), EVENTS)
    assert last == EVENTS[-1]
    assert output.getvalue().splitlines() == [
        "state     queued",
        "stage     train",
        "train     5/10  loss 0.6123  102 seq/s  ETA 1m15s",
        "warning   odd �[31mrow",
    ]


def test_on_a_terminal_there_is_a_bar_with_stage_loss_and_time_left() -> None:
    output = io.StringIO()
    watch_on(Console(file=output, force_terminal=True, width=120, color_system=None), EVENTS)
    text = output.getvalue()
    assert "5/10  loss 0.6123  102 seq/s  ETA 1m15s" in text
    assert "\x1b[31mrow" not in text


def test_plain_progress_comes_every_few_seconds_and_at_the_end() -> None:
    lines: list[str] = []
    now_s = 0.0
    display = PlainDisplay(lines.append, clock=lambda: now_s)
    for step in range(1, 11):
        display.show(
            Event("", "progress", {"type": "progress", "stage": "upload", "step": step * 1000, "steps_total": 10_000})
        )
        now_s += 2.0
    assert lines == [
        "upload    1.0 kB/10.0 kB",
        "upload    4.0 kB/10.0 kB",
        "upload    7.0 kB/10.0 kB",
        "upload    10.0 kB/10.0 kB",
    ]


def test_a_failure_is_described_with_its_reason() -> None:
    event = Event("", "state", {"state": "failed", "reason": "nan_loss", "message": "at step 3"})
    assert describe(event) == "state     failed (nan_loss: at step 3)"


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0s"), (59.4, "59s"), (60, "1m00s"), (3599, "59m59s"), (7500, "2h05m")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("per_s", "text"), [(314.2, "314"), (10.4, "10"), (3.24, "3.2"), (0.4, "0.4"), (0.0417, "0.042"), (0.0, "0")]
)
def test_slow_is_not_shown_as_nothing(per_s: float, text: str) -> None:
    progress = ProgressEvent(stage="train", step=1, steps_total=2, sequences_per_s=per_s)
    assert figures(progress) == f"{text} seq/s"


def test_nothing_that_steers_a_terminal_is_printed() -> None:
    assert printable("a\x1b]0;title\x07\u202eb\tc") == "a�]0;title��b\tc"
