"""submit, watch, show, logs, cancel; jobs: list, rm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from eigenwerk.cli.console import (
    ID_CHARS,
    EverybodyOption,
    JobId,
    JsonOption,
    YesOption,
    age,
    confirm_deletion,
    note,
    platform,
    say,
    say_deleted,
    say_json,
    say_json_line,
    say_table,
)
from eigenwerk.cli.jobs.checks import located
from eigenwerk.cli.jobs.choice import job_to_change, job_to_look_at
from eigenwerk.client import Client
from eigenwerk.errors import EigenwerkError
from eigenwerk.http.event_stream import Event
from eigenwerk.reports.forecasts import use_lines
from eigenwerk.reports.reporting import columns, result_lines
from eigenwerk.reports.watch import figures, watch_on
from eigenwerk.resources import Job, LogLine
from eigenwerk.specs import SpecFile, read_spec
from jobspecs.lifecycle import JobState

commands = typer.Typer()
job_commands = typer.Typer(invoke_without_command=True)

#: What a shell reports of a program that Ctrl-C ended.
_EXIT_INTERRUPTED = 130


@commands.command()
def submit(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="A job spec in YAML, or in JSON if named .json.")],
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the job to its end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Queue a job.

    With --watch, Ctrl-C stops the watching and not the job; the exit code is 1 when the job does not succeed.

    Example: eigenwerk submit examples/train-classifier.yaml --watch
    """
    file = read_spec(spec)
    with platform() as client:
        job = _submitted(client, file)
        if watch:
            if as_json:
                say_json_line({"type": "submitted", "data": job})
            else:
                say(f"submitted {job.name} as job {job.id}")
            watch_to_end(client, job.id, as_json)
        elif as_json:
            say_json(job)
        else:
            say(job.id)
            note(f"Watch it: eigenwerk watch {job.id[:ID_CHARS]}")


@commands.command()
def watch(job_id: JobId, everybody: EverybodyOption = False, as_json: JsonOption = False) -> None:
    """Follow a job to its end: stage, steps, loss, time left, then the result.

    Ctrl-C stops the watching and not the job; the exit code is 1 when the job does not succeed.

    Example: eigenwerk watch 3f2a91c0
    """
    with platform() as client:
        watch_to_end(client, job_to_look_at(client, job_id, everybody), as_json)


@job_commands.callback()
def list_jobs(
    context: typer.Context,
    state: Annotated[
        list[JobState] | None, typer.Option(help="Only jobs in this state; may be given several times.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=2000, help="At most so many, newest first.")] = 20,
    everybody: Annotated[bool, typer.Option("--all", help="Everybody's jobs. Needs an administrator's token.")] = False,
    user: Annotated[str | None, typer.Option(help="This user's jobs. Needs an administrator's token.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List your jobs, newest first; delete those that have ended. An administrator also sees others' jobs.

    Example: eigenwerk jobs --state running --state queued
    """
    if context.invoked_subcommand is not None:
        return
    if everybody and user is not None:
        raise typer.BadParameter("everybody's jobs or one user's, not both.", param_hint="--user")
    with platform() as client:
        found = client.jobs(limit=limit, states=[str(item) for item in state or ()], everybody=everybody, owner=user)
    if as_json:
        say_json(found)
        return
    others = everybody or user is not None
    rows = [
        [
            job.id[:ID_CHARS],
            *([job.owner] if others else []),
            job.name,
            job.kind,
            job.state + (f" ({job.reason})" if job.reason else ""),
            age(job.created_at),
        ]
        for job in found
    ]
    headings = ["ID", *(["OWNER"] if others else []), "NAME", "KIND", "STATE", "AGE"]
    nobody = "There are no such jobs." if others else "You have no such jobs. Submit one: eigenwerk submit SPEC"
    say_table(headings, rows, nobody)


@job_commands.command("rm")
def remove_job(
    job_id: JobId, everybody: EverybodyOption = False, yes: YesOption = False, as_json: JsonOption = False
) -> None:
    """Delete an ended job with its log and checkpoints. The model or data set that it made stays.

    Example: eigenwerk jobs rm 3f2a91c0
    """
    with platform() as client:
        job_id = job_to_change(client, job_id, everybody, lambda job: job.ended)
        confirm_deletion(f"the job {job_id}", yes)
        say_deleted(client.delete_job(job_id), as_json)


@job_commands.command("boost")
def boost_job(
    job_id: JobId,
    boost: Annotated[int, typer.Option(min=0, max=100, help="The higher one goes first; 0 is everybody's.")] = 1,
    everybody: EverybodyOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put a job before everybody's with a lower boost. This needs an administrator's token.

    A spec's `priority` orders one's own jobs only.

    Example: eigenwerk jobs boost 3f2a91c0 --all
    """
    with platform() as client:
        job = client.boost(job_to_change(client, job_id, everybody, lambda job: not job.ended), boost)
    if as_json:
        say_json(job)
    else:
        say(f"{job.id[:ID_CHARS]}  {job.state}  boost {job.boost}")


@commands.command()
def show(job_id: JobId, everybody: EverybodyOption = False, as_json: JsonOption = False) -> None:
    """Show one job: state, progress, and the result once it succeeded. Of several with one name, the newest.

    Example: eigenwerk show 3f2a91c0 --json
    """
    with platform() as client:
        job = client.job(job_to_look_at(client, job_id, everybody))
    if as_json:
        say_json(job)
        return
    for line in _described(job):
        say(line)


@commands.command()
def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    everybody: EverybodyOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print a job's log. With --json: JSON Lines. Of several jobs with one name, the newest.

    With --follow the exit code is 1 when the job does not succeed.

    Example: eigenwerk logs -f 3f2a91c0
    """
    with platform() as client:
        job_id = job_to_look_at(client, job_id, everybody)
        said = 0
        try:
            for line in _followed(client, job_id) if follow else client.logs(job_id):
                said += 1
                _say_log(line, as_json)
        except KeyboardInterrupt:
            if not follow:
                raise
            raise _detached(job_id, f"eigenwerk logs -f {job_id}") from None
        if follow:
            check_success(client.job(job_id))
        if not said:
            state = client.job(job_id).state
            note(f"The job has written no log; it is {state}. See: eigenwerk show {job_id[:ID_CHARS]}")


def _followed(client: Client, job_id: str) -> Iterator[LogLine]:
    """Until the job ends."""
    for event in client.watch(job_id):
        if event.type == "log":
            yield LogLine.model_validate(event.data)


@commands.command()
def cancel(job_id: JobId, everybody: EverybodyOption = False, as_json: JsonOption = False) -> None:
    """Cancel a job: a queued one at once, an active one as soon as its worker has stopped it.

    Example: eigenwerk cancel 3f2a91c0
    """
    with platform() as client:
        job = client.cancel(job_to_change(client, job_id, everybody, lambda job: not job.ended))
    if as_json:
        say_json(job)
    else:
        say(f"{job.id[:ID_CHARS]}  {job.state}")


@commands.command()
def retry(
    job_id: JobId,
    checkpoint_required: Annotated[
        bool, typer.Option("--checkpoint-required", help="Refuse when there is no checkpoint to go on from.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the new job to its end.")] = False,
    everybody: EverybodyOption = False,
    as_json: JsonOption = False,
) -> None:
    """Go on with a failed or cancelled job: a new job, from its last checkpoint.

    Checkpoints are kept for a week after the end; without one the new job starts anew.

    Example: eigenwerk retry 3f2a91c0 --watch
    """
    with platform() as client:
        job_id = job_to_change(
            client, job_id, everybody, lambda job: job.state in (JobState.failed, JobState.cancelled)
        )
        job = client.retry(job_id, checkpoint_required=checkpoint_required)
        if as_json and watch:
            say_json_line({"type": "submitted", "data": job})
        elif as_json:
            say_json(job)
        else:
            say(job.id)
            from_step = f"goes on from step {job.checkpoint_step}" if job.checkpoint_step is not None else "starts anew"
            note(f"It {from_step}. Watch it: eigenwerk watch {job.id}")
        if watch:
            watch_to_end(client, job.id, as_json)


def _submitted(client: Client, file: SpecFile) -> Job:
    job = located(file, lambda: client.submit(file.document))
    for warning in job.warnings:
        note(f"warning: {file.located(warning)}")
    return job


def watch_to_end(client: Client, job_id: str, as_json: bool) -> None:
    """Shows a job until it ends, then its result. Raises EigenwerkError when it did not succeed."""
    try:
        if as_json:
            for event in client.watch(job_id):
                say_json_line(_event_document(event))
        else:
            watch_on(Console(highlight=False), client.watch(job_id))
    except KeyboardInterrupt:
        raise _detached(job_id, f"eigenwerk watch {job_id}") from None
    job = client.job(job_id)
    if as_json:
        say_json_line({"type": "result", "data": job})
    elif job.result is not None:
        say()
        for line in result_lines(job.result):
            say(line)
    check_success(job)


def _event_document(event: Event) -> dict[str, object]:
    return {"id": event.id, "type": event.type, "data": event.data}


def _detached(job_id: str, command: str) -> typer.Exit:
    note(f"Stopped watching; job {job_id[:ID_CHARS]} goes on. Watch it again: {command}")
    return typer.Exit(_EXIT_INTERRUPTED)


def check_success(job: Job) -> None:
    """Raises EigenwerkError, with the reason, when the job did not succeed."""
    if job.state == JobState.succeeded:
        return
    why = ": ".join(part for part in (job.reason, job.message) if part)
    text = f"Job {job.id[:ID_CHARS]} {job.state}" + (f" ({why})" if why else "")
    raise EigenwerkError(f"{text}. {job.remedy}" if job.remedy else f"{text}.")


def _say_log(line: LogLine, as_json: bool) -> None:
    if as_json:
        say_json_line({"at": line.at.isoformat(), "level": line.level, "message": line.message})
    else:
        say(f"{line.at.astimezone():%H:%M:%S} {line.level:<7} {line.message}")


def _described(job: Job) -> list[str]:
    facts = [
        ("id", job.id),
        ("name", job.name),
        ("kind", job.kind),
        ("state", job.state),
        ("reason", job.reason),
        ("message", job.message),
        ("remedy", job.remedy),
        ("boost", str(job.boost) if job.boost else None),
        ("waiting for", job.waiting_for),
        ("attempts", str(job.attempts)),
        ("pipeline", f"step {job.pipeline.step} of {job.pipeline.name} {job.pipeline.id}" if job.pipeline else None),
        ("sweep", f"{job.sweep.name} {job.sweep.id}, trial {job.sweep.trial or 'that won'}" if job.sweep else None),
        ("schedule", f"{job.schedule.name}, for {job.schedule.due_at:%Y-%m-%d %H:%M} UTC" if job.schedule else None),
        ("retry of", job.retry_of),
        ("retried as", " ".join(job.retried_as)),
        ("checkpoint", None if job.checkpoint_step is None else f"step {job.checkpoint_step}"),
        ("submitted", f"{age(job.created_at)} ago"),
        ("started", f"{age(job.started_at)} ago" if job.started_at else None),
        ("finished", f"{age(job.finished_at)} ago" if job.finished_at else None),
    ]
    if job.progress is not None and not job.ended:
        progress = f"{job.progress.stage} {job.progress.step}/{job.progress.steps_total}  {figures(job.progress)}"
        facts.append(("progress", progress.rstrip()))
    facts += [("warning", str(warning)) for warning in job.warnings]
    lines = columns(["", ""], [[name, value] for name, value in facts if value])
    if job.result is not None:
        lines += ["", *result_lines(job.result)]
        if used := use_lines(job.result.report, job.attempts, job.run_s):
            lines += ["", *used]
    return lines
