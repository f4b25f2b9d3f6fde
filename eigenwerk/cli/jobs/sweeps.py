"""sweep, and sweeps: list, show, watch, cancel."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from eigenwerk.cli.console import (
    ID_CHARS,
    EverybodyOption,
    JsonOption,
    age,
    note,
    platform,
    say,
    say_json,
    say_json_line,
    say_table,
)
from eigenwerk.cli.jobs.checks import located
from eigenwerk.client import Client
from eigenwerk.errors import EigenwerkError
from eigenwerk.reports.leaderboard import board_lines, told
from eigenwerk.reports.reporting import size
from eigenwerk.reports.watch import duration
from eigenwerk.resources.sweeps import Sweep, SweepForecast
from eigenwerk.specs import SpecFile, parse_spec_text, read_spec
from jobspecs.estimate import Duration
from jobspecs.sweeps.document import KIND
from jobspecs.sweeps.lifecycle import SweepState
from jobspecs.sweeps.space import told_values

commands = typer.Typer(invoke_without_command=True)
top_commands = typer.Typer()

_EXIT_INTERRUPTED = 130
#: Sweeps of a list, unless more are asked for.
_LISTED = 20
#: `1e-5..1e-3`, with `:log` or a step behind it.
_RANGE = re.compile(r"(?P<low>[^.,\[{][^,]*?)\.\.(?P<high>[^,:]+)(?::(?P<how>log|[0-9.eE+-]+))?")

SweepFile = Annotated[
    Path, typer.Argument(metavar="SPEC", help="A sweep, or a job spec with --over; YAML, or JSON if named .json.")
]
SweepId = Annotated[
    str, typer.Argument(metavar="SWEEP", help="Its id, the beginning of it, or its name: then the newest.")
]
OverOption = Annotated[
    list[str] | None,
    typer.Option(
        "--over",
        metavar="FIELD=VALUES",
        help="A field of the spec and its values, A,B,C, or a range, LOW..HIGH, LOW..HIGH:log or LOW..HIGH:STEP. "
        "May be given again for other fields.",
    ),
]


@top_commands.command("sweep")
def submit_sweep(
    spec: SweepFile,
    over: OverOption = None,
    method: Annotated[str | None, typer.Option(help="grid, random or tpe; grid when absent.")] = None,
    trials: Annotated[int | None, typer.Option(help="How many, of random and tpe.")] = None,
    metric: Annotated[str | None, typer.Option(help="The figure that decides, such as macro_f1.")] = None,
    halving: Annotated[
        int | None, typer.Option(metavar="STEPS", help="Stop trials that are behind after so many steps, and later.")
    ] = None,
    at_once: Annotated[int | None, typer.Option("--at-once", help="Jobs at once, at most.")] = None,
    max_time: Annotated[
        str | None, typer.Option("--max-time", help="Such as 2h; the best so far is confirmed.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The sweep's name; the spec's with -sweep when absent.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Tell what is wrong and what it takes; queue nothing.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it to its end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Try many values in fields of a job spec, and confirm the best on rows that no trial saw.

    With --watch, Ctrl-C stops the watching and not the sweep; the exit code is 1 when it does not succeed.

    Example: eigenwerk sweep examples/train-classifier.yaml --over training.learning_rate=1e-5,3e-5,1e-4
    """
    told_options = {
        "name": name,
        "method": method,
        "trials": trials,
        "metric": metric,
        "halving": {"first_steps": halving} if halving is not None else None,
        "at_once": at_once,
        "max_time": max_time,
    }
    file = _document(spec, over or [], {key: value for key, value in told_options.items() if value is not None})
    with platform() as client:
        if check:
            _say_forecast(file, located(file, lambda: client.check_sweep(file.document)), as_json)
            return
        sweep = located(file, lambda: client.submit_sweep(file.document))
        if watch:
            if as_json:
                say_json_line({"type": "submitted", "data": sweep})
            else:
                say(f"submitted {sweep.name} as sweep {sweep.id}: {sweep.trials_total} trials")
            _watch_to_end(client, sweep.id, as_json)
        elif as_json:
            say_json(sweep)
        else:
            say(sweep.id)
            note(f"Watch it: eigenwerk sweeps watch {sweep.id[:ID_CHARS]}")


@commands.callback()
def sweeps(context: typer.Context, as_json: JsonOption = False) -> None:
    """One spec with many values, and the best of them. Lists yours; `eigenwerk sweep` submits one.

    Example: eigenwerk sweeps
    """
    if context.invoked_subcommand is None:
        list_sweeps(limit=_LISTED, everybody=False, as_json=as_json)


@commands.command("list")
def list_sweeps(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, newest first.")] = _LISTED,
    everybody: EverybodyOption = False,
    as_json: JsonOption = False,
) -> None:
    """List your sweeps, newest first.

    Example: eigenwerk sweeps list --limit 5
    """
    with platform() as client:
        found = client.sweeps(limit=limit, everybody=everybody)
    if as_json:
        say_json(found)
        return
    rows = [
        [
            one.id[:ID_CHARS],
            *([one.owner] if everybody else []),
            one.name,
            one.state,
            f"{sum(one.trial_states.values())} of {one.trials_total}",
            age(one.created_at),
        ]
        for one in found
    ]
    headings = ["ID", *(["OWNER"] if everybody else []), "NAME", "STATE", "TRIALS", "AGE"]
    say_table(headings, rows, "You have no sweeps. Submit one: eigenwerk sweep SPEC --over FIELD=A,B,C")


@commands.command("show")
def show_sweep(sweep: SweepId, everybody: EverybodyOption = False, as_json: JsonOption = False) -> None:
    """Show a sweep's leaderboard: values, figures with intervals, and what confirmed the winner.

    Example: eigenwerk sweeps show newsticker-quality-sweep
    """
    with platform() as client:
        found = client.sweep(client.find_sweep_id(sweep, everybody=everybody))
    if as_json:
        say_json(found)
        return
    why = f" ({found.message})" if found.message else ""
    say(f"{found.name}  {found.id}  {found.state}{why}")
    for line in board_lines(found):
        say(line)


@commands.command("watch")
def watch_sweep(sweep: SweepId, everybody: EverybodyOption = False, as_json: JsonOption = False) -> None:
    """Follow a sweep to its end: each trial as it begins, stops and ends, then the leaderboard.

    Ctrl-C stops the watching and not the sweep; the exit code is 1 when it does not succeed.

    Example: eigenwerk sweeps watch newsticker-quality-sweep
    """
    with platform() as client:
        _watch_to_end(client, client.find_sweep_id(sweep, everybody=everybody), as_json)


@commands.command("cancel")
def cancel_sweep(sweep: SweepId, everybody: EverybodyOption = False, as_json: JsonOption = False) -> None:
    """Cancel a sweep as a whole: no trial begins any more, and those that run are stopped.

    Example: eigenwerk sweeps cancel newsticker-quality-sweep
    """
    with platform() as client:
        meant = client.find_sweep_id(sweep, everybody=everybody, possible=lambda one: not one.ended)
        cancelled = client.cancel_sweep(meant)
    if as_json:
        say_json(cancelled)
    else:
        say(f"{cancelled.id[:ID_CHARS]}  {cancelled.state}")


def _document(path: Path, over: Sequence[str], options: dict[str, Any]) -> SpecFile:
    """The sweep of a file, or one around the job spec in it, with what options say."""
    file = read_spec(path)
    searched = dict(_searched(text) for text in over)
    if file.document.get("kind") == KIND:
        document = {**file.document, **options}
        if searched:
            document["over"] = {**(file.document.get("over") or {}), **searched}
        return SpecFile(file.path, document, file.lines)
    if not searched:
        raise EigenwerkError(
            f"{path} is a job spec: say which fields to search. --over training.learning_rate=1e-5,3e-5,1e-4"
        )
    named = {"name": f"{file.document.get('name', 'job')}-sweep"}
    document = {"kind": KIND, **named, "spec": file.document, "over": searched, **options}
    return SpecFile(file.path, document, {f"spec.{field}": line for field, line in file.lines.items()})


def _searched(text: str) -> tuple[str, Any]:
    """A field with its values or range, of `FIELD=VALUES`. Raises EigenwerkError."""
    field, equals, written = text.partition("=")
    if not equals or not field or not written:
        raise EigenwerkError(f"--over {text}: write FIELD=VALUES, such as training.learning_rate=1e-5,3e-5,1e-4")
    if range_ := _RANGE.fullmatch(written):
        found = {"low": _value(text, range_["low"]), "high": _value(text, range_["high"])}
        how = range_["how"]
        if how is not None:
            found |= {"scale": how} if how == "log" else {"step": _value(text, how)}
        return field, found
    return field, _value(text, f"[{written}]")


def _value(option: str, written: str) -> Any:
    """As YAML reads it."""
    return parse_spec_text(f"value: {written}", f"--over {option}").document["value"]


def _watch_to_end(client: Client, sweep_id: str, as_json: bool) -> None:
    """Raises EigenwerkError when it did not succeed."""
    seen: dict[int, str] = {}
    sweep = None
    try:
        for sweep in client.watch_sweep(sweep_id):
            if as_json:
                say_json_line({"type": "sweep", "data": sweep})
            else:
                _say_changes(sweep, seen)
    except KeyboardInterrupt:
        note(f"Stopped watching; the sweep goes on. Watch it again: eigenwerk sweeps watch {sweep_id}")
        raise typer.Exit(_EXIT_INTERRUPTED) from None
    if sweep is None or sweep.state == SweepState.succeeded:
        return
    why = f" {sweep.message}" if sweep.message else ""
    raise EigenwerkError(f"Sweep {sweep.name} {sweep.state}.{why} See: eigenwerk sweeps show {sweep.id[:ID_CHARS]}")


def _say_changes(sweep: Sweep, seen: dict[int, str]) -> None:
    """A line for each trial that has another state or stage than before; at the end the leaderboard."""
    confirmation = [sweep.confirmation] if sweep.confirmation is not None else []
    for trial in [*sorted(sweep.trials, key=lambda one: one.number), *confirmation]:
        stage = trial.progress.stage if trial.progress is not None else trial.job_state
        now = f"{trial.state} {stage}" if trial.state == "running" else trial.state
        if seen.get(trial.number) != now:
            seen[trial.number] = now
            which = f"trial {trial.number}" if trial.number else "winner"
            value = f"  {sweep.metrics[0]} {trial.value:.4f}" if trial.value is not None and sweep.metrics else ""
            say(f"{which:<10} {told_values(trial.values)}  {told(trial)}{value}".rstrip())
    if sweep.ended:
        say()
        for line in board_lines(sweep):
            say(line)


def _say_forecast(file: SpecFile, forecast: SweepForecast, as_json: bool) -> None:
    if as_json:
        say_json(forecast)
        return
    decides = " or ".join(forecast.metrics)
    say(f"{forecast.trials} trials at most, by the {'greatest' if forecast.goal == 'max' else 'least'} {decides}")
    for values in forecast.first:
        say(f"  {told_values(values)}")
    say(f"each has {size(forecast.memory_bytes)} and takes {_band(forecast.trial)} ({forecast.trial.basis})")
    say(f"in all {_band(forecast.duration)}, where trials find a place at once; jobs together {_band(forecast.work)}")
    for warning in forecast.warnings:
        note(f"warning: {file.located(warning)}")


def _band(time: Duration) -> str:
    return f"{duration(time.low_s)} to {duration(time.high_s)}"
