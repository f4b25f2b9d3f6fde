"""tokens hub: show, set, rm."""

from __future__ import annotations

import sys

import typer

from eigenwerk.cli.console import JsonOption, age, platform, say, say_json

hub_token_commands = typer.Typer(invoke_without_command=True)


@hub_token_commands.callback()
def hub(context: typer.Context, as_json: JsonOption = False) -> None:
    """Your own token of the model hub, for what you name as hub:…: show, set and forget it.

    Example: eigenwerk tokens hub
    """
    if context.invoked_subcommand is not None:
        return
    with platform() as client:
        found = client.hub_token()
    if as_json:
        say_json(found)
        return
    unreadable = "" if found.readable else "; it can't be read any more: eigenwerk tokens hub set"
    say(f"…{found.hint}  set {age(found.set_at)} ago{unreadable}")


@hub_token_commands.command("set")
def set_token(as_json: JsonOption = False) -> None:
    """Keep a token, encrypted; it is asked for, or read from standard input, and never shown again.

    Example: eigenwerk tokens hub set < token.txt
    """
    token = typer.prompt("Token", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()
    with platform() as client:
        found = client.set_hub_token(token.strip())
    if as_json:
        say_json(found)
    else:
        say(f"…{found.hint}  is used for your hub: models from now on")


@hub_token_commands.command("rm")
def remove_token(as_json: JsonOption = False) -> None:
    """Forget the token.

    Example: eigenwerk tokens hub rm
    """
    with platform() as client:
        client.delete_hub_token()
    if as_json:
        say_json({"deleted": True})
    else:
        say("forgotten")
