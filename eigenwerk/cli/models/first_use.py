"""models first-use: who asks a model first deploys it."""

from __future__ import annotations

from typing import Annotated

import typer

from eigenwerk.cli.console import JsonOption, platform, say, say_json
from eigenwerk.errors import EigenwerkError
from jobspecs.kinds.base import parse_duration


def first_use(
    name: Annotated[str, typer.Argument(metavar="NAME", help="With all its versions, also those to come.")],
    idle: Annotated[str, typer.Option(help="Without a request for so long it sleeps: 90s, 10m, 2h.")] = "10m",
    gpus: Annotated[int, typer.Option(min=0, max=8, help="GPUs that it is served with.")] = 0,
    off: Annotated[bool, typer.Option("--off", help="Nobody deploys it so any more; what is deployed stays.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Let the first request that names a model deploy it. It waits until the model answers; so do those after it.

    Example: eigenwerk models first-use ft-smollm2 --idle 30m
    """
    try:
        idle_after_s = int(parse_duration(idle).total_seconds())
    except ValueError as error:
        raise EigenwerkError(f"--idle: {error}.") from error
    with platform() as client:
        if off:
            model = client.never_deploy_on_first_use(name)
        else:
            wishes = {"gpus": gpus, "replicas": max(1, gpus)}
            model = client.deploy_on_first_use(name, idle_after_s=idle_after_s, **wishes)
    if as_json:
        say_json(model)
    elif off:
        say(f"{model.owner}/{model.name} is deployed by hand alone")
    else:
        say(f"{model.owner}/{model.name} is deployed by whoever asks first, and sleeps after {idle} without a request")
