"""models tag, describe, archive: what is said of a model, which changes none of its versions."""

from __future__ import annotations

from typing import Annotated

import typer

from eigenwerk.cli.console import JsonOption, platform, say, say_json
from eigenwerk.resources import Model

Name = Annotated[str, typer.Argument(metavar="NAME", help="A model.")]
Version = Annotated[str, typer.Argument(metavar="NAME[@V]", help="One version, or all that there are now.")]


def tag(
    name: Name,
    tags: Annotated[list[str] | None, typer.Argument(metavar="[TAG]", help="Words to find it by.")] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="TAG", help="Take a tag away.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Tag a model. Without tags: show those that it has.

    Example: eigenwerk models tag newsticker-quality german news --remove draft
    """
    with platform() as client:
        model = client.tag_model(name, add=tags or (), remove=remove or ()) if tags or remove else client.model(name)
    _say(model, as_json)


def describe(
    name: Name,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="What it is for; empty: nothing.")] = None,
    licence: Annotated[
        str | None, typer.Option(metavar="TEXT", help="In place of the one that is known; empty: that one again.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a model is for, and under which licence. Its base's licence is known without it, where that names one.

    Example: eigenwerk models describe newsticker-quality --description "Is a headline clickbait?" --licence apache-2.0
    """
    told = {"description": description, "license": licence}
    said = {field: text or None for field, text in told.items() if text is not None}
    if not said:
        raise typer.BadParameter("say --description or --licence.")
    with platform() as client:
        model = client.describe_model(name, **said)
    _say(model, as_json)


def archive(reference: Version, as_json: JsonOption = False) -> None:
    """Let lists, and names without a version, pass over a version. By number and alias it works as before.

    Example: eigenwerk models archive newsticker-quality@1
    """
    _archive(reference, True, as_json)


def unarchive(reference: Version, as_json: JsonOption = False) -> None:
    """Take a version back out of the archive.

    Example: eigenwerk models unarchive newsticker-quality@1
    """
    _archive(reference, False, as_json)


def _archive(reference: str, archived: bool, as_json: bool) -> None:
    with platform() as client:
        client.archive_model(reference, archived=archived)
    if as_json:
        say_json({"model": reference, "archived": archived})
    else:
        say(f"{reference} is {'archived' if archived else 'no longer archived'}")


def _say(model: Model, as_json: bool) -> None:
    if as_json:
        say_json(model)
        return
    facts = [("tags", ", ".join(model.tags)), ("licence", model.license), ("description", model.description)]
    said = [f"{name}: {value}" for name, value in facts if value]
    say(f"{model.owner}/{model.name}  {'  '.join(said) or 'nothing is said of it'}")
