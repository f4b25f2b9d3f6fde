"""usage: what is stored."""

from __future__ import annotations

from typing import Annotated

import typer

from eigenwerk.cli.console import JsonOption, platform, say_json, say_table
from eigenwerk.reports.reporting import size

commands = typer.Typer()


@commands.command()
def usage(
    _: Annotated[bool, typer.Option("--storage", help="What is stored: the only usage there is so far.")] = True,
    everybody: Annotated[bool, typer.Option("--all", help="Everybody's, with an administrator's token.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how many bytes your data sets, models, checkpoints and unfinished imports take.

    Example: eigenwerk usage --storage
    """
    with platform() as client:
        found = client.storage_usage(everybody=everybody)
    if as_json:
        say_json(found)
        return
    rows = [[item.owner, item.kind, f"{item.items:,}", size(item.bytes)] for item in found.data]
    if rows:
        rows.append(["", "total", "", size(found.bytes_total)])
    if found.unreferenced_bytes:
        rows.append(["", "unreferenced, goes within the hour", "", size(found.unreferenced_bytes)])
    say_table(["OWNER", "KIND", "ITEMS", "SIZE"], rows, "Nothing is stored.")
