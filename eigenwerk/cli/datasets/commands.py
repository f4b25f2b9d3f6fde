"""datasets: push, list, download, preview."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from eigenwerk.cli.console import (
    JsonOption,
    YesOption,
    age,
    confirm_deletion,
    platform,
    say,
    say_deleted,
    say_json,
    say_table,
    transfer,
)
from eigenwerk.cli.datasets.pages import show
from eigenwerk.cli.datasets.previews import CHATS_SHOWN, ROWS_SHOWN, say_chats, shortened
from eigenwerk.cli.datasets.pulling import pull, told_origin
from eigenwerk.cli.datasets.pushing import push
from eigenwerk.cli.people.sharing import SharedOption, share_dataset, unshare_dataset
from eigenwerk.reports.reporting import size

#: Columns of the list that many people need not.
_RARE = ("ORIGIN", "NOTICES")

commands = typer.Typer(
    help="Push, list and look into data sets.\n\nExample: eigenwerk datasets push headlines.csv.gz",
    invoke_without_command=True,
)


@commands.callback()
def datasets(context: typer.Context, as_json: JsonOption = False) -> None:
    """Push, list and look into data sets.

    Example: eigenwerk datasets push headlines.csv.gz
    """
    if context.invoked_subcommand is None:
        list_datasets(as_json=as_json)


commands.command()(push)
commands.command()(pull)
commands.command()(show)
commands.command("share")(share_dataset)
commands.command("unshare")(unshare_dataset)


@commands.command("list")
def list_datasets(shared: SharedOption = False, as_json: JsonOption = False) -> None:
    """List the newest version of each of your data sets.

    Example: eigenwerk datasets list
    """
    with platform() as client:
        found = client.datasets(shared=shared)
    if as_json:
        say_json(found)
        return
    rows = [
        [
            item.reference if shared else f"{item.name}@{item.version}",
            f"{item.rows:,}",
            size(item.bytes),
            ", ".join(item.columns),
            age(item.created_at),
            told_origin(item),
            str(len(item.notices) or ""),
        ]
        for item in found
    ]
    headers = ["NAME", "ROWS", "SIZE", "COLUMNS", "AGE", "ORIGIN", "NOTICES"]
    # What no data set has, has no column; notices themselves are in `datasets show`.
    shown = [place for place, name in enumerate(headers) if name not in _RARE or any(row[place] for row in rows)]
    headers, *rows = [[row[place] for place in shown] for row in [headers, *rows]]
    say_table(headers, rows, "You have no data sets. Push one: eigenwerk datasets push FILE")


@commands.command()
def download(
    reference: Annotated[str, typer.Argument(metavar="NAME[@V]", help="A data set, or OWNER/NAME; @ takes a version.")],
    path: Annotated[
        Path, typer.Argument(metavar="[PATH]", help="A file with its ending, or a folder.", show_default="here")
    ] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Download the file of a data set as it was pushed, or as a job made it. Interrupted, it goes on where it stopped.

    Example: eigenwerk datasets download newsticker@2 ./data
    """
    with platform() as client:
        version = client.dataset_version(reference)
        with transfer(version.file_name, version.bytes) as progress:
            target = client.download_dataset(version, path, progress=progress)
    if as_json:
        say_json({"dataset": version.reference, "path": str(target), "sha256": version.sha256, "bytes": version.bytes})
    else:
        say(f"{version.reference}  {size(version.bytes)}  its sha256 is right  {target}")


@commands.command("rm")
def remove_dataset(
    reference: Annotated[
        str, typer.Argument(metavar="NAME[@V]", help="One version, or all without @V; OWNER/NAME too.")
    ],
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a version of a data set, or all. Refused while a job that has not ended reads it.

    Jobs that failed or were cancelled and have checkpoints are named first: without their data they can't be retried.

    Example: eigenwerk datasets rm newsticker@1
    """
    what = f"the data set {reference}" + ("" if "@" in reference else " with all its versions")
    with platform() as client:
        confirm_deletion(what, yes, lambda: client.delete_dataset(reference, dry_run=True))
        say_deleted(client.delete_dataset(reference), as_json, told=not yes)


class Shown(StrEnum):
    """As what `preview` shows the rows."""

    table = "table"
    chat = "chat"


Template = typer.Option(metavar="TEXT", help="A text with {column} places, for --as chat.")


@commands.command()
def preview(
    reference: Annotated[str, typer.Argument(metavar="NAME[@V]", help="A data set, or OWNER/NAME; @ takes a version.")],
    shown: Annotated[Shown, typer.Option("--as", help="The rows as they are, or as conversations.")] = Shown.table,
    rows: Annotated[int | None, typer.Option(min=1, max=100, help="How many; 10 rows or 3 conversations.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME[@V]", help="Render the conversations as this model will see them.")
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(help="What the data is for: sft, dpo, orpo, kto, pretrain; else the first that it fits."),
    ] = None,
    format_name: Annotated[str | None, typer.Option("--format", help="Recognised by the columns if absent.")] = None,
    prompt: Annotated[str | None, Template] = None,
    completion: Annotated[str | None, Template] = None,
    text: Annotated[str | None, Template] = None,
    system: Annotated[str | None, Template] = None,
    merge_turns: Annotated[
        bool, typer.Option("--merge-turns", help="Join turns of one role that follow each other.")
    ] = False,
    unanswered: Annotated[
        str | None, typer.Option(help="Turns behind the last answer: refuse or drop.", show_default="refuse")
    ] = None,
    control_tokens: Annotated[
        str | None, typer.Option(help="Tokens such as <|im_end|> in texts: text, keep or refuse.", show_default="text")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the first rows of a data set; as conversations with what will be trained marked.

    Example: eigenwerk datasets preview instructions --as chat --model smollm2
    """
    given = {"prompt": prompt, "completion": completion, "text": text, "system": system}
    given |= {"objective": objective, "format": format_name, "unanswered": unanswered}
    given |= {"merge_turns": "true" if merge_turns else None, "control_tokens": control_tokens}
    reading = {name: value for name, value in given.items() if value is not None}
    with platform() as client:
        if shown is Shown.chat:
            chats = client.preview_chats(reference, rows=rows or CHATS_SHOWN, model=model, **reading)
            say_json(chats) if as_json else say_chats(chats)
            return
        if reading or model:
            raise typer.BadParameter("it is for --as chat only.", param_hint=f"--{next(iter([*reading, 'model']))}")
        table = client.preview_dataset(reference, rows=rows or ROWS_SHOWN)
    if as_json:
        say_json(table)
        return
    cells = [[shortened(row.get(column)) for column in table.columns] for row in table.rows]
    say_table(table.columns, cells, "The data set has no rows.")
