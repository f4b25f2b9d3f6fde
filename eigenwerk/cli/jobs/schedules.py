"""schedules: specs that are submitted at times."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from eigenwerk.calls.schedules import Schedule
from eigenwerk.cli.console import ID_CHARS, JsonOption, YesOption, confirm_deletion, platform, say, say_json, say_table
from eigenwerk.cli.jobs.checks import located
from eigenwerk.client import Client
from eigenwerk.errors import EigenwerkError
from eigenwerk.specs import read_spec
from jobspecs.problems import Problem

commands = typer.Typer(invoke_without_command=True)

ScheduleName = Annotated[str, typer.Argument(metavar="NAME", help="From `eigenwerk schedules list`.")]


@commands.callback()
def schedules(context: typer.Context, as_json: JsonOption = False) -> None:
    """Submit a job or pipeline at times: docs/schedules.md. Lists yours.

    Example: eigenwerk schedules create spec.yaml --name weekly --cron "0 9 * * 1" --time-zone Europe/Berlin
    """
    if context.invoked_subcommand is None:
        list_schedules(as_json=as_json)


@commands.command()
def create(
    spec: Annotated[Path, typer.Argument(metavar="FILE", help="The spec of a job or pipeline, in YAML or JSON.")],
    name: Annotated[str, typer.Option(help="What the schedule is called.")],
    cron: Annotated[str, typer.Option(help="Minute, hour, day of month, month, day of week.")],
    time_zone: Annotated[str, typer.Option(help="Whose clocks: Europe/Berlin.")] = "UTC",
    missed: Annotated[str, typer.Option(help="Of times at which no scheduler ran: skip, once or all.")] = "once",
    as_json: JsonOption = False,
) -> None:
    """Make a schedule. The spec is checked as if it were submitted now; the next five times are shown.

    Example: eigenwerk schedules create spec.yaml --name weekly --cron "0 9 * * 1" --time-zone Europe/Berlin
    """
    file = read_spec(spec)

    def ask(client: Client) -> Schedule:
        try:
            return client.create_schedule(name, cron, file.document, time_zone=time_zone, missed=missed)
        except EigenwerkError as error:
            # Fields of the spec are fields of the file; the others are options of the command.
            others = [one for one in error.problems if (one.field or "").partition(".")[0] != "spec"]
            if others:
                raise EigenwerkError("\n".join(map(_of_option, others)), status=error.status) from error
            problems = [
                one.model_copy(update={"field": (one.field or "").removeprefix("spec").removeprefix(".") or None})
                for one in error.problems
            ]
            raise EigenwerkError(str(error), problems, error.status) from error

    with platform() as client:
        made = located(file, lambda: ask(client))
    if as_json:
        say_json(made)
        return
    say(f"{made.name} submits {made.kind} at {made.cron}, {made.time_zone}")
    _say_times(made)


@commands.command("list")
def list_schedules(as_json: JsonOption = False) -> None:
    """List your schedules with the next time of each.

    Example: eigenwerk schedules list
    """
    with platform() as client:
        found = client.schedules()
    if as_json:
        say_json(found)
        return
    rows = [[item.name, item.kind, item.cron, item.time_zone, item.state, _next(item)] for item in found]
    say_table(
        ["NAME", "KIND", "CRON", "ZONE", "STATE", "NEXT"], rows, "There are none: eigenwerk schedules create FILE"
    )


@commands.command()
def show(name: ScheduleName, as_json: JsonOption = False) -> None:
    """Show a schedule, its next five times, and what came of the last ones.

    Example: eigenwerk schedules show weekly
    """
    with platform() as client:
        found = client.schedule(name)
    if as_json:
        say_json(found)
        return
    say(f"{found.name}  {found.kind}  {found.cron}  {found.time_zone}  missed: {found.missed}  {found.state}")
    _say_times(found)
    for run in found.runs:
        queued = f"job {run.job_id[:ID_CHARS]}" if run.job_id else f"pipeline {str(run.pipeline_id)[:ID_CHARS]}"
        what = run.refused or (queued if run.job_id or run.pipeline_id else "deleted since")
        say(f"ran   {_local(run.due_at, found)}  {what}")


@commands.command()
def pause(name: ScheduleName, as_json: JsonOption = False) -> None:
    """Submit nothing until it is resumed.

    Example: eigenwerk schedules pause weekly
    """
    with platform() as client:
        found = client.pause_schedule(name)
    say_json(found) if as_json else say(f"{found.name} is paused")


@commands.command()
def resume(name: ScheduleName, as_json: JsonOption = False) -> None:
    """Go on with the next time from now; those that came meanwhile are not made up for.

    Example: eigenwerk schedules resume weekly
    """
    with platform() as client:
        found = client.resume_schedule(name)
    say_json(found) if as_json else say(f"{found.name} goes on: {_next(found)}")


@commands.command()
def rm(name: ScheduleName, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Delete a schedule; what it has submitted stays.

    Example: eigenwerk schedules rm weekly --yes
    """
    confirm_deletion(f"the schedule {name}", yes)
    with platform() as client:
        client.delete_schedule(name)
    say_json({"name": name, "deleted": True}) if as_json else say(f"deleted {name}")


def _of_option(problem: Problem) -> str:
    option = f"--{problem.field.replace('_', '-')}: " if problem.field else ""
    return f"{option}{problem.model_copy(update={'field': None})}"


def _say_times(item: Schedule) -> None:
    for time in item.next_times:
        say(f"next  {_local(time, item)}")


def _next(item: Schedule) -> str:
    return _local(item.next_times[0], item) if item.next_times else "-"


def _local(time: datetime, item: Schedule) -> str:
    """As clocks of the schedule show it; in UTC where this machine does not know the zone."""
    try:
        return f"{time.astimezone(ZoneInfo(item.time_zone)):%Y-%m-%d %H:%M %Z}"
    except (KeyError, ValueError, OSError):
        return f"{time:%Y-%m-%d %H:%M} UTC"
