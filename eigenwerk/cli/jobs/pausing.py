"""pause, resume."""

from __future__ import annotations

import typer

from eigenwerk.cli.console import ID_CHARS, EverybodyOption, JobId, JsonOption, platform, say, say_json
from eigenwerk.cli.jobs.choice import job_to_change
from eigenwerk.resources import Job
from jobspecs.lifecycle import JobState

commands = typer.Typer()

_PAUSED = (JobState.pausing, JobState.paused)


@commands.command()
def pause(job_id: JobId, everybody: EverybodyOption = False, as_json: JsonOption = False) -> None:
    """Pause a job: a queued one at once, an active one as soon as its worker has stored a checkpoint and stopped it.

    It gives its place back, and keeps its checkpoint until it is resumed or cancelled.

    Example: eigenwerk pause 3f2a91c0
    """
    with platform() as client:
        meant = job_to_change(client, job_id, everybody, lambda job: not job.ended and job.state not in _PAUSED)
        _say(client.pause(meant), as_json)


@commands.command()
def resume(job_id: JobId, everybody: EverybodyOption = False, as_json: JsonOption = False) -> None:
    """Queue a paused job again. It goes on from its last checkpoint, to the result that it would have had without.

    Example: eigenwerk resume 3f2a91c0
    """
    with platform() as client:
        meant = job_to_change(client, job_id, everybody, lambda job: job.state in _PAUSED)
        _say(client.resume(meant), as_json)


def _say(job: Job, as_json: bool) -> None:
    if as_json:
        say_json(job)
    else:
        say(f"{job.id[:ID_CHARS]}  {job.state}")
