"""datasets pull: a data set of a model hub."""

from __future__ import annotations

from typing import Annotated

import typer

from eigenwerk.cli.console import JsonOption, note, platform, say, say_json, transfer
from eigenwerk.hub import HubDataset, find_hub_dataset
from eigenwerk.hub.finding import is_hub_reference
from eigenwerk.reports.reporting import size
from eigenwerk.resources import DatasetVersion

#: Digits of a commit that people read.
_COMMIT_CHARS = 8


def pull(
    reference: Annotated[
        str, typer.Argument(metavar="hub:ORG/NAME[@REVISION]", help="A data set of a hub; its newest commit if absent.")
    ],
    config: Annotated[str | None, typer.Option(help="Which of several data sets that the repository holds.")] = None,
    split: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this part; again for another. All if absent.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The data set's name here, or OWNER/NAME; the hub's if absent.")
    ] = None,
    class_numbers: Annotated[
        bool, typer.Option("--class-numbers", help="Keep the numbers of classes; otherwise their names are taken.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch a data set of a model hub with your own token (HF_TOKEN), and push it as the next version.

    Several splits become one data set with the column split. Programs of the repository never run.

    Example: eigenwerk datasets pull hub:org/name --split train --name news
    """
    if not is_hub_reference(reference):
        message = f"{reference!r} is no data set of a hub: write hub:org/name or hub:org/name@revision."
        raise typer.BadParameter(message, param_hint="REFERENCE")
    found = find_hub_dataset(reference, config=config, splits=split or ())
    note(_told(found))
    with platform() as client:
        version = client.pull_dataset(found, name=name, class_names=not class_numbers, transferring=transfer)
    if as_json:
        say_json(version)
        return
    say(f"{version.name}@{version.version}  {version.rows:,} rows  columns: {', '.join(version.columns)}")
    if version.origin:
        say(f"origin: {told_origin(version)}")
    if version.recognised:
        say(f"recognised: {version.recognised}")
    for notice in version.notices:
        say(f"notice: {notice}")


def told_origin(version: DatasetVersion) -> str:
    """In a cell: `hub:org/name@0123abcd, apache-2.0`."""
    place, _, rest = (version.origin or "").partition("@")
    commit, _, config = rest.partition("#")
    where = place + (f"@{commit[:_COMMIT_CHARS]}" if commit else "") + (f"#{config}" if config else "")
    return ", ".join(part for part in (where, version.license) if part)


def _told(found: HubDataset) -> str:
    """What will be fetched, before it is: `hub:org/name@0123abcd: 2 files, 1.2 MB; splits train, test; apache-2.0`."""
    files = len(dict.fromkeys(found.files))
    splits = f"split{'s' if len(found.splits) > 1 else ''} {', '.join(found.splits)}"
    config = f" (configuration {found.config})" if found.config else ""
    return (
        f"hub:{found.repository}@{found.commit[:_COMMIT_CHARS]}{config}: {files} file{'s' if files > 1 else ''}, "
        f"{size(found.bytes)}; {splits}; licence {found.license or 'not told'}"
    )
