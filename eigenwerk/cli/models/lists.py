"""models list and search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from eigenwerk.cli.console import JsonOption, age, platform, say_json, say_table
from eigenwerk.cli.people.sharing import SharedOption
from eigenwerk.reports.reporting import size
from eigenwerk.resources import ModelVersion

ArchivedOption = Annotated[bool, typer.Option("--archived", help="Also archived versions.")]


def list_models(shared: SharedOption = False, archived: ArchivedOption = False, as_json: JsonOption = False) -> None:
    """List the newest version of each of your models.

    Example: eigenwerk models list --shared
    """
    with platform() as client:
        found = client.models(shared=shared, archived=archived)
    empty = (
        "You have no models. Train one: eigenwerk submit SPEC; or bring one: eigenwerk models import DIR --name NAME"
    )
    _say(found, as_json, empty, whose=shared)


def search(
    text: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]", help="Words in name, owner, description or tags.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="What it serves, such as text-classification.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="May be given several times: all of them.")] = None,
    base: Annotated[
        str | None, typer.Option(metavar="NAME[@V]", help="What it was made from; OWNER/NAME or hub:org/name too.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Such as apache-2.0.")] = None,
    archived: ArchivedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Search your models and those that others share; each is shown by its newest version.

    Example: eigenwerk models search headlines --task text-classification --base minilm-l6
    """
    with platform() as client:
        words = " ".join(text or []) or None
        wish = {"task": task, "base": base, "license": licence}
        found = client.models(words, **wish, tags=tag or (), archived=archived, shared=True)
    _say(found, as_json, "No model fits. Fewer words or options find more.", whose=True)


def _say(found: Sequence[ModelVersion], as_json: bool, empty: str, *, whose: bool) -> None:
    if as_json:
        say_json(found)
        return
    rows = [
        [
            item.reference if whose else f"{item.name}@{item.version}",
            item.task or "-",
            _accuracy(item.metrics),
            size(item.bytes),
            age(item.created_at),
            ", ".join(item.tags),
            item.license or "",
        ]
        for item in found
    ]
    headers = ["NAME", "TASK", "ACCURACY", "SIZE", "AGE", "TAGS", "LICENCE"]
    # What no model has, has no column.
    shown = [place for place in range(len(headers)) if place < 5 or any(row[place] for row in rows)]
    say_table([headers[place] for place in shown], [[row[place] for place in shown] for row in rows], empty)


def _accuracy(metrics: dict[str, float]) -> str:
    value = metrics.get("test/accuracy", metrics.get("validation/accuracy"))
    return "-" if value is None else f"{value:.1%}"
