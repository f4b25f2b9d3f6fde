"""models alias: set, rolled back, deleted, and its history."""

from __future__ import annotations

from typing import Annotated

import typer

from eigenwerk.cli.console import JsonOption, age, note, platform, say, say_json, say_table
from eigenwerk.client import Client
from eigenwerk.resources.model_relations import Alias


def alias(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model; NAME@V names the version as well.")],
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="A name such as prod.")],
    version: Annotated[
        str | None, typer.Argument(metavar="[V]", help="What it shall mean: a version, or what another alias means.")
    ] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Back to what it meant before.")] = False,
    history: Annotated[bool, typer.Option("--history", help="Show each move: when, who, from where, why.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the alias; no version goes.")] = False,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for its history.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also onto an unverified version; its history keeps it.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Point an alias at a version. No deployment moves with it: it serves the version that it was given.

    Without a version: tell what the alias means.

    Example: eigenwerk models alias newsticker-quality prod 3 --reason "better on long headlines"
    """
    model, at, selector = name.partition("@")
    target = version or (selector if at else None)
    wishes = [target is not None, rollback, history, delete]
    if sum(wishes) > 1 or (at and version):
        raise typer.BadParameter("name one version, or one of --rollback, --history and --delete.")
    with platform() as client:
        if target is not None:
            _say(model, client.set_alias(f"{model}@{target}", alias, reason=reason, force=force), as_json)
        elif rollback:
            _say(model, client.roll_back_alias(model, alias, reason=reason, force=force), as_json)
        elif delete:
            client.delete_alias(model, alias, reason=reason)
            say_json({"alias": alias, "deleted": True}) if as_json else say(f"{model}@{alias} is no more")
        else:
            _tell(client, model, alias, history, as_json)


def _tell(client: Client, model: str, alias: str, history: bool, as_json: bool) -> None:
    found = client.alias_history(model, alias)
    if as_json:
        say_json(found)
        return
    meaning = f"{model}@{found.version}" if found.version is not None else "no version: it was deleted"
    say(f"{model}@{alias} is {meaning}")
    if not history:
        return
    rows = [
        [
            age(move.at),
            move.actor,
            f"{move.kind}, forced" if move.forced else move.kind,
            _number(move.version_from),
            _number(move.version_to),
            move.reason or "",
        ]
        for move in found.moves
    ]
    say_table(["AGO", "WHO", "HOW", "FROM", "TO", "WHY"], rows, "It was set before moves were written down.")


def _say(model: str, found: Alias, as_json: bool) -> None:
    if as_json:
        say_json(found)
        return
    say(f"{model}@{found.alias} is {model}@{found.version}")
    for deployment in found.left_behind:
        note(
            f"{deployment} still serves what it meant before. "
            f"To move it: eigenwerk deploy {deployment} --model {model}@{found.alias}"
        )


def _number(version: int | None) -> str:
    return "-" if version is None else str(version)
