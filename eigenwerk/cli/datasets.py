"""datasets: push, list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eigenwerk.cli.console import JsonOption, age, platform, say, say_json, say_table, transfer
from eigenwerk.errors import EigenwerkError
from eigenwerk.reporting import size

commands = typer.Typer(
    help="Push and list data sets.\n\nExample: eigenwerk datasets push headlines.csv.gz",
    invoke_without_command=True,
)


@commands.callback()
def datasets(context: typer.Context, as_json: JsonOption = False) -> None:
    """Push and list data sets.

    Example: eigenwerk datasets push headlines.csv.gz
    """
    if context.invoked_subcommand is None:
        list_datasets(as_json)


@commands.command()
def push(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, TSV or JSONL (each also .gz), or Parquet.")],
    name: Annotated[
        str | None, typer.Option(help="The data set's name; the file's up to its first dot if absent.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send a file as the next version of a data set. It is checked before anything is stored.

    Example: eigenwerk datasets push newsticker.csv.gz --name newsticker
    """
    if not file.is_file():
        raise EigenwerkError(f"{file} is no file. Name a CSV, TSV, JSONL or Parquet file.")
    with platform() as client, transfer(file.name, file.stat().st_size) as progress:
        version = client.push_dataset(file, name=name, progress=progress)
    if as_json:
        say_json(version)
    else:
        say(f"{version.name}@{version.version}  {version.rows:,} rows  columns: {', '.join(version.columns)}")


@commands.command("list")
def list_datasets(as_json: JsonOption = False) -> None:
    """List the newest version of each of your data sets.

    Example: eigenwerk datasets list
    """
    with platform() as client:
        found = client.datasets()
    if as_json:
        say_json(found)
        return
    rows = [
        [
            f"{item.name}@{item.version}",
            f"{item.rows:,}",
            size(item.bytes),
            ", ".join(item.columns),
            age(item.created_at),
        ]
        for item in found
    ]
    say_table(
        ["NAME", "ROWS", "SIZE", "COLUMNS", "AGE"],
        rows,
        "You have no data sets. Push one: eigenwerk datasets push FILE",
    )
