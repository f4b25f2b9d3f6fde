"""What the commands share: how they print, which platform they talk to, and the option --json."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, TextColumn, TransferSpeedColumn

from eigenwerk.client import Client, connect
from eigenwerk.reports.reporting import columns, size
from eigenwerk.reports.watch import duration, printable
from eigenwerk.resources import Deleted

#: Characters of a job's id that lists show; enough to tell jobs apart, and accepted wherever an id is.
ID_CHARS = 8

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
JobId = Annotated[
    str, typer.Argument(metavar="JOB", help="The job's id, its beginning if no other begins so, or its name.")
]
EverybodyOption = Annotated[
    bool, typer.Option("--all", help="Look among everybody's jobs. Needs an administrator's token.")
]

ModelReference = Annotated[str, typer.Argument(metavar="NAME[@V]", help="A model; @ takes a version or an alias.")]

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]

DeploymentName = Annotated[str, typer.Argument(metavar="NAME", help="The deployment's name, or OWNER/NAME.")]


def say(text: str = "") -> None:
    """A line on stdout."""
    sys.stdout.write(f"{printable(text)}\n")


def note(text: str) -> None:
    """A line on stderr, where it is in no program's way."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def say_json(document: Any) -> None:
    """One JSON document on stdout; on a terminal indented, in a pipe on one line."""
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(plain(document), ensure_ascii=False, indent=indent) + "\n")


def say_json_line(document: Any) -> None:
    """One line of JSON Lines, at once."""
    sys.stdout.write(json.dumps(plain(document), ensure_ascii=False, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def plain(document: Any) -> Any:
    """Resources of the client as plain JSON."""
    if isinstance(document, BaseModel):
        return document.model_dump(mode="json")
    if isinstance(document, list):
        return [plain(item) for item in document]
    if isinstance(document, dict):
        return {key: plain(value) for key, value in document.items()}
    return document


def say_table(headers: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """An aligned table; the line `empty`, on stderr, when there are no rows."""
    if not rows:
        note(empty)
        return
    for line in columns(headers, rows):
        say(line)


def age(moment: datetime | None) -> str:
    """How long ago, such as `3m20s`; `-` for never."""
    return "-" if moment is None else duration((datetime.now(UTC) - moment).total_seconds())


def confirm_deletion(what: str, yes: bool, consequences: Callable[[], Deleted] | None = None) -> None:
    """Asks on stderr unless `yes`, and tells the consequences first.

    Raises typer.Abort at a no, typer.BadParameter where nobody can be asked.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            f"nobody is there to confirm that {what} is to be deleted for good; say so.", param_hint="--yes"
        )
    if consequences is not None:
        _tell_lost(consequences(), "can't be retried then")
    typer.confirm(f"Delete {what} for good?", abort=True, err=True)


#: Jobs that are named; there may be hundreds.
_LOST_SHOWN = 10


def _tell_lost(deleted: Deleted, what: str) -> None:
    """Which jobs that failed or were cancelled lose their checkpoints' use."""
    for job in deleted.retries_lost[:_LOST_SHOWN]:
        note(f"{job.name} ({job.id[:ID_CHARS]}), which has checkpoints, {what}")
    if (more := len(deleted.retries_lost) - _LOST_SHOWN) > 0:
        note(f"and {more} more {what}")


def say_deleted(deleted: Deleted, as_json: bool, *, told: bool = True) -> None:
    """`told`: somebody was asked, and knows the consequences."""
    if not told:
        _tell_lost(deleted, "can't be retried any more")
    if as_json:
        say_json(deleted)
    else:
        for name in deleted.deleted:
            say(f"deleted {name}")
        say(f"{size(deleted.bytes)} are freed within a minute")


@contextmanager
def platform() -> Iterator[Client]:
    """A client for the platform that the environment, or this machine, knows."""
    with connect() as client:
        yield client


@contextmanager
def transfer(label: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """A progress bar for bytes on stderr, when that is a terminal. Yields what is to be told the bytes that went by."""
    with progress_bar(label, total_bytes, DownloadColumn(), TransferSpeedColumn()) as advance:
        yield advance


@contextmanager
def progress_bar(label: str, total: int, *told: ProgressColumn) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, when that is a terminal, with `told` beside it. Yields what is to be told how much was done."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        *told,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(printable(label), total=total)
        yield lambda count: bar.advance(task, count)
