"""share and unshare: who may read models and data sets beside their owner."""

from __future__ import annotations

from typing import Annotated

import typer

from eigenwerk.cli.console import JsonOption, platform, say, say_json

Name = Annotated[str, typer.Argument(metavar="NAME", help="With all its versions, also those to come.")]
SharedOption = Annotated[bool, typer.Option("--shared", help="Also what others share with everyone.")]


def share_model(name: Name, as_json: JsonOption = False) -> None:
    """Let everyone on this platform read a model: see, download, deploy it, and train from it. Only you change it.

    Others name it with its owner: OWNER/NAME.

    Example: eigenwerk models share newsticker-quality
    """
    _model(name, shared=True, as_json=as_json)


def unshare_model(name: Name, as_json: JsonOption = False) -> None:
    """Make a model private again. Jobs and deployments of others that use it already keep it.

    Example: eigenwerk models unshare newsticker-quality
    """
    _model(name, shared=False, as_json=as_json)


def share_dataset(name: Name, as_json: JsonOption = False) -> None:
    """Let everyone on this platform read a data set: see, download it, and train with it. Only you change it.

    Others name it with its owner: OWNER/NAME.

    Example: eigenwerk datasets share newsticker
    """
    _dataset(name, shared=True, as_json=as_json)


def unshare_dataset(name: Name, as_json: JsonOption = False) -> None:
    """Make a data set private again. Jobs of others that use it already keep it.

    Example: eigenwerk datasets unshare newsticker
    """
    _dataset(name, shared=False, as_json=as_json)


def _model(name: str, *, shared: bool, as_json: bool) -> None:
    with platform() as client:
        model = client.share_model(name, "everyone" if shared else "private")
    _say(f"{model.owner}/{model.name}", model.visibility, as_json)


def _dataset(name: str, *, shared: bool, as_json: bool) -> None:
    with platform() as client:
        visibility = client.share_dataset(name, "everyone" if shared else "private")
    _say(name, visibility, as_json)


def _say(name: str, visibility: str, as_json: bool) -> None:
    if as_json:
        say_json({"name": name, "visibility": visibility})
    else:
        say(f"{name} can be read by {'its owner alone' if visibility == 'private' else visibility}")
