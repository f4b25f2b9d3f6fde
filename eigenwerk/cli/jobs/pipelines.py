"""pipelines: submit, check, list, show, watch, cancel, retry, rm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eigenwerk.cli.console import (
    ID_CHARS,
    EverybodyOption,
    JsonOption,
    YesOption,
    age,
    confirm_deletion,
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
from eigenwerk.reports.pipeline_graph import graph_lines, told
from eigenwerk.reports.reporting import columns, size
from eigenwerk.reports.watch import duration
from eigenwerk.resources.pipelines import Pipeline, PipelineForecast
from eigenwerk.specs import SpecFile, read_spec
from jobspecs.estimate import Duration
from jobspecs.pipelines.lifecycle import RETRYABLE, PipelineState

commands = typer.Typer(invoke_without_command=True)

_EXIT_INTERRUPTED = 130
#: Pipelines of a list, unless more are asked for.
_LISTED = 20

PipelineFile = Annotated[Path, typer.Argument(metavar="FILE", help="A pipeline in YAML, or in JSON if named .json.")]
PipelineId = Annotated[
    str, typer.Argument(metavar="PIPELINE", help="Its id, the beginning of it, or its name: then the newest.")
]
WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Follow it to its end.")]
ReuseOption = Annotated[
    bool, typer.Option("--reuse", help="Take steps from earlier successes with the same spec, inputs and code.")
]


@commands.callback()
def pipelines(context: typer.Context, as_json: JsonOption = False) -> None:
    """Jobs in a row whose references name earlier ones, with conditions, aliases and deployments. Lists yours.

    Example: eigenwerk pipelines
    """
    if context.invoked_subcommand is None:
        list_pipelines(limit=_LISTED, everybody=False, as_json=as_json)


@commands.command("submit")
def submit_pipeline(
    path: PipelineFile, watch: WatchOption = False, reuse: ReuseOption = False, as_json: JsonOption = False
) -> None:
    """Check a pipeline as a whole and start it.

    With --watch, Ctrl-C stops the watching and not the pipeline; the exit code is 1 when it does not succeed.

    Example: eigenwerk pipelines submit examples/pipeline.yaml --watch
    """
    file = _read(path, reuse)
    with platform() as client:
        pipeline = located(file, lambda: client.submit_pipeline(file.document))
        for step in pipeline.steps:
            for warning in step.warnings:
                field = f"steps.{step.name}.{warning.field}" if warning.field else f"steps.{step.name}"
                note(f"warning: {file.located(warning.model_copy(update={'field': field}))}")
        if watch:
            if as_json:
                say_json_line({"type": "submitted", "data": pipeline})
            else:
                say(f"submitted {pipeline.name} as pipeline {pipeline.id}")
            _watch_to_end(client, pipeline.id, as_json)
        elif as_json:
            say_json(pipeline)
        else:
            say(pipeline.id)
            note(f"Watch it: eigenwerk pipelines watch {pipeline.id[:ID_CHARS]}")


@commands.command("check")
def check_pipeline(path: PipelineFile, as_json: JsonOption = False) -> None:
    """Check and estimate every step of a pipeline. Queues nothing; the exit code is 1 when something is wrong.

    Example: eigenwerk pipelines check examples/pipeline.yaml
    """
    file = _read(path, reuse=False)
    with platform() as client:
        forecast = located(file, lambda: client.check_pipeline(file.document))
    if as_json:
        say_json(forecast)
        return
    for line in _forecast_lines(forecast):
        say(line)
    for step in forecast.steps:
        for warning in step.warnings:
            note(f"warning: step {step.name}: {warning}")


@commands.command("list")
def list_pipelines(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, newest first.")] = _LISTED,
    everybody: EverybodyOption = False,
    as_json: JsonOption = False,
) -> None:
    """List your pipelines, newest first.

    Example: eigenwerk pipelines list --limit 5
    """
    with platform() as client:
        found = client.pipelines(limit=limit, everybody=everybody)
    if as_json:
        say_json(found)
        return
    rows = [
        [
            one.id[:ID_CHARS],
            *([one.owner] if everybody else []),
            one.name,
            one.state,
            ", ".join(f"{count} {state}" for state, count in one.step_states.items()),
            age(one.created_at),
        ]
        for one in found
    ]
    headings = ["ID", *(["OWNER"] if everybody else []), "NAME", "STATE", "STEPS", "AGE"]
    say_table(headings, rows, "You have no pipelines. Submit one: eigenwerk pipelines submit FILE")


@commands.command("show")
def show_pipeline(pipeline: PipelineId, everybody: EverybodyOption = False, as_json: JsonOption = False) -> None:
    """Show a pipeline as a graph: which step waits for which, its state, and what it made.

    Example: eigenwerk pipelines show better-quality
    """
    with platform() as client:
        found = client.pipeline(client.find_pipeline_id(pipeline, everybody=everybody))
    if as_json:
        say_json(found)
        return
    why = f" ({found.message})" if found.message else ""
    say(f"{found.name}  {found.id}  {found.state}{why}")
    for line in graph_lines(found.steps):
        say(line)


@commands.command("watch")
def watch_pipeline(pipeline: PipelineId, everybody: EverybodyOption = False, as_json: JsonOption = False) -> None:
    """Follow a pipeline to its end: each step as it begins, goes on and ends, then the graph.

    Ctrl-C stops the watching and not the pipeline; the exit code is 1 when it does not succeed.

    Example: eigenwerk pipelines watch better-quality
    """
    with platform() as client:
        _watch_to_end(client, client.find_pipeline_id(pipeline, everybody=everybody), as_json)


@commands.command("cancel")
def cancel_pipeline(pipeline: PipelineId, everybody: EverybodyOption = False, as_json: JsonOption = False) -> None:
    """Cancel a pipeline as a whole: nothing of it begins any more, and what runs is stopped.

    Example: eigenwerk pipelines cancel better-quality
    """
    with platform() as client:
        meant = client.find_pipeline_id(pipeline, everybody=everybody, possible=lambda one: not one.ended)
        _say_state(client.cancel_pipeline(meant), as_json)


@commands.command("retry")
def retry_pipeline(
    pipeline: PipelineId, watch: WatchOption = False, everybody: EverybodyOption = False, as_json: JsonOption = False
) -> None:
    """Go on with a failed or cancelled pipeline from the steps that did not succeed; jobs from their checkpoints.

    Example: eigenwerk pipelines retry better-quality --watch
    """
    with platform() as client:
        meant = client.find_pipeline_id(pipeline, everybody=everybody, possible=lambda one: one.state in RETRYABLE)
        retried = client.retry_pipeline(meant)
        if not watch:
            _say_state(retried, as_json)
        else:
            _watch_to_end(client, retried.id, as_json)


@commands.command()
def rm(
    pipeline: PipelineId, everybody: EverybodyOption = False, yes: YesOption = False, as_json: JsonOption = False
) -> None:
    """Delete a pipeline that has ended, with its history; its jobs and what they made stay.

    Example: eigenwerk pipelines rm 5b1c2d3e --yes
    """
    with platform() as client:
        found = client.pipeline(client.find_pipeline_id(pipeline, everybody=everybody, only=True))
        confirm_deletion(f"the pipeline {found.name} ({found.id[:ID_CHARS]}, {found.state})", yes)
        client.delete_pipeline(found.id)
    say_json({"id": found.id, "name": found.name, "deleted": True}) if as_json else say(
        f"deleted {found.name} {found.id}"
    )


def _read(path: Path, reuse: bool) -> SpecFile:
    file = read_spec(path)
    return SpecFile(file.path, {**file.document, "reuse": True}, file.lines) if reuse else file


def _say_state(pipeline: Pipeline, as_json: bool) -> None:
    if as_json:
        say_json(pipeline)
    else:
        say(f"{pipeline.id[:ID_CHARS]}  {pipeline.state}")


def _watch_to_end(client: Client, pipeline_id: str, as_json: bool) -> None:
    """Raises EigenwerkError when it did not succeed."""
    seen: dict[str, str] = {}
    pipeline = None
    try:
        for pipeline in client.watch_pipeline(pipeline_id):
            if as_json:
                say_json_line({"type": "pipeline", "data": pipeline})
            else:
                _say_changes(pipeline, seen)
    except KeyboardInterrupt:
        note(f"Stopped watching; the pipeline goes on. Watch it again: eigenwerk pipelines watch {pipeline_id}")
        raise typer.Exit(_EXIT_INTERRUPTED) from None
    if pipeline is None or pipeline.state == PipelineState.succeeded:
        return
    remedy = "Look at the step's job (eigenwerk show JOB), then: eigenwerk pipelines retry"
    why = f" {pipeline.message}" if pipeline.message else ""
    raise EigenwerkError(f"Pipeline {pipeline.name} {pipeline.state}.{why} {remedy} {pipeline.id[:ID_CHARS]}")


def _say_changes(pipeline: Pipeline, seen: dict[str, str]) -> None:
    """A line for each step that has another state or stage than before; at the end the graph."""
    for step in pipeline.steps:
        stage = step.progress.stage if step.progress is not None else step.job_state
        now = f"{step.state} {stage}" if step.state == "running" else step.state
        if seen.get(step.name, "waiting") != now:
            seen[step.name] = now
            say(f"{step.name:<16} {step.state:<9}  {told(step)}".rstrip())
    if pipeline.ended:
        say()
        for line in graph_lines(pipeline.steps):
            say(line)


def _forecast_lines(forecast: PipelineForecast) -> list[str]:
    rows = [
        [
            step.name,
            step.kind,
            ", ".join(step.needs) or "-",
            size(step.memory_bytes) if step.memory_bytes else "-",
            _band(step.estimate.duration) if step.estimate is not None else "-",
        ]
        for step in forecast.steps
    ]
    return [
        *columns(["STEP", "KIND", "NEEDS", "MEMORY", "TIME"], rows),
        f"in all {_band(forecast.duration)}, where every step finds a place at once; jobs together "
        f"{_band(forecast.work)} ({forecast.work.basis})",
    ]


def _band(time: Duration) -> str:
    return f"{duration(time.low_s)} to {duration(time.high_s)}"
