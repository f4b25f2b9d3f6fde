"""A job on the screen: a live progress bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from eigenwerk.http.event_stream import Event
from eigenwerk.reports.reporting import size
from jobspecs.events import ProgressEvent

#: Seconds between two lines of progress when the output is no terminal.
_PLAIN_INTERVAL_S = 5.0
#: Stages whose steps are bytes.
_BYTE_STAGES = frozenset({"fetch", "upload"})


class Display(Protocol):
    """Shows a job's events as they come."""

    def show(self, event: Event) -> None: ...


def duration(seconds: float) -> str:
    """`45s`, `3m20s`, `2h05m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def speed(per_s: float) -> str:
    """`314`, `3.2`, `0.042`: two digits at least, so that slow is not nothing."""
    return f"{per_s:.0f}" if per_s >= 10 else f"{per_s:.2g}"


def printable(text: str) -> str:
    """The text without what could steer a terminal."""
    return "".join(character if character.isprintable() or character == "\t" else "�" for character in text)


def describe(event: Event) -> str | None:
    """An event as a line for people; None for progress and for what isn't worth a line."""
    data = event.data
    if event.type == "state":
        why = ": ".join(part for part in (data.get("reason"), data.get("message")) if part)
        line = f"state     {data['state']}" + (f" ({why})" if why else "")
    elif event.type == "stage":
        line = f"stage     {data['stage']}"
    elif event.type == "metric":
        line = f"metric    {data['name']} = {data['value']:.4g}"
    elif event.type == "log" and data.get("level") in ("warning", "error"):
        line = f"{data['level']:<9} {data['message']}"
    elif event.type == "failure":
        line = f"failure   {data['reason']}: {data['message']}"
    elif event.type == "checkpoint":
        line = f"saved     checkpoint at step {data['step']}"
    else:
        return None
    return printable(line)


def figures(progress: ProgressEvent) -> str:
    """Loss, speed and time left, as far as they are known."""
    parts = [
        f"loss {progress.loss:.4f}" if progress.loss is not None else "",
        f"{speed(progress.sequences_per_s)} seq/s" if progress.sequences_per_s is not None else "",
        f"ETA {duration(progress.eta_s)}" if progress.eta_s is not None else "",
    ]
    return "  ".join(part for part in parts if part)


def steps(progress: ProgressEvent) -> str:
    """`120/570`; for stages that move bytes `12.3 MB/91.6 MB`; nothing while the total isn't known."""
    if not progress.steps_total:
        return ""
    if progress.stage in _BYTE_STAGES:
        return f"{size(progress.step)}/{size(progress.steps_total)}"
    return f"{progress.step}/{progress.steps_total}"


class PlainDisplay:
    """One line per event, and one per few seconds of progress."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._written_at_s = float("-inf")

    def show(self, event: Event) -> None:
        if event.type == "progress":
            self._progress(ProgressEvent.model_validate(_fields(event)))
        elif line := describe(event):
            self._write(line)

    def _progress(self, progress: ProgressEvent) -> None:
        last = progress.step == progress.steps_total
        if not last and self._clock() - self._written_at_s < _PLAIN_INTERVAL_S:
            return
        self._written_at_s = self._clock()
        self._write(f"{printable(progress.stage):<9} {steps(progress)}  {figures(progress)}".rstrip())


class LiveDisplay(AbstractContextManager["LiveDisplay"]):
    """A bar at the bottom of the terminal with stage, steps, loss and time left; everything else scrolls above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description:<9}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[figures]}", markup=False),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> LiveDisplay:
        self._bar.start()
        self._task = self._bar.add_task("waiting", total=None, figures="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, event: Event) -> None:
        if event.type == "progress":
            progress = ProgressEvent.model_validate(_fields(event))
            text = f"{steps(progress)}  {figures(progress)}"
            self._update(printable(progress.stage), progress.step, progress.steps_total or None, text)
        elif line := describe(event):
            self._console.print(Text(line))
            name = event.data.get("stage") or event.data.get("state")
            if name:
                self._update(printable(name), 0, None, "")

    def _update(self, description: str, step: int, total: int | None, text: str) -> None:
        if self._task is not None:
            self._bar.reset(self._task, total=total, completed=step, description=description, figures=text)


def watch_on(
    console: Console, events: Iterable[Event], on_event: Callable[[Event], None] | None = None
) -> Event | None:
    """Shows all events; returns the last one, whose type is `end` when the job has ended."""
    display: AbstractContextManager[Display]
    if console.is_terminal:
        display = LiveDisplay(console)
    else:
        display = nullcontext(PlainDisplay(lambda line: console.out(line, highlight=False)))
    last = None
    with display as shown:
        for event in events:
            shown.show(event)
            if on_event is not None:
                on_event(event)
            last = event
    return last


def _fields(event: Event) -> dict[str, object]:
    """The event's own fields, without its place in the history."""
    return {name: value for name, value in event.data.items() if name in ProgressEvent.model_fields}
