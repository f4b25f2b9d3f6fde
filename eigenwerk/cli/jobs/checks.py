"""check, estimate: what is known of a job before it is queued."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from eigenwerk.cli.console import JsonOption, note, platform, say, say_json
from eigenwerk.errors import EigenwerkError
from eigenwerk.reports.forecasts import estimate_lines, report_lines
from eigenwerk.specs import SpecFile, read_spec

commands = typer.Typer()

Answer = TypeVar("Answer")
SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="A job spec in YAML, or in JSON if named .json.")]


@commands.command()
def check(spec: SpecPath, as_json: JsonOption = False) -> None:
    """Read a job's whole data set as the job would: lengths, duplicates, leaks, refused rows. Queues nothing.

    The exit code is 1 when the job can't work with the data.

    Example: eigenwerk check examples/train-classifier.yaml
    """
    file = read_spec(spec)
    with platform() as client:
        report = located(file, lambda: client.check(file.document))
    if as_json:
        say_json(report)
    else:
        for line in report_lines(report):
            say(line)
        for warning in report.warnings:
            note(f"warning: {file.located(warning)}")
        for problem in report.problems:
            note(f"error: {file.located(problem)}")
    if report.problems:
        raise typer.Exit(1)


@commands.command()
def estimate(spec: SpecPath, as_json: JsonOption = False) -> None:
    """Tell a job's parameters, its memory by part, and how long it may take. Queues nothing.

    Example: eigenwerk estimate examples/train-classifier.yaml
    """
    file = read_spec(spec)
    with platform() as client:
        made = located(file, lambda: client.estimate(file.document))
    if as_json:
        say_json(made)
        return
    for line in estimate_lines(made):
        say(line)


def located(file: SpecFile, ask: Callable[[], Answer]) -> Answer:
    """The answer, or the platform's problems with the lines of the spec that they are about."""
    try:
        return ask()
    except EigenwerkError as error:
        if not error.problems:
            raise
        lines = "\n".join(file.located(problem) for problem in error.problems)
        raise EigenwerkError(lines, error.problems, error.status) from error
