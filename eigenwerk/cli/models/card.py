"""models card: the card in Markdown, with its curves as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eigenwerk.cli.console import JsonOption, ModelReference, platform, say, say_json


def card(
    reference: ModelReference,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write README.md and card/*.svg into this folder instead.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the card of a model version: data, settings, curves, verdict, limits, and how to ask it, in Markdown.

    Example: eigenwerk models card newsticker-quality@2 --out ./card
    """
    with platform() as client:
        if out is not None:
            path = client.save_model_card(reference, out)
            say_json({"model": reference, "path": str(path)}) if as_json else say(str(path))
            return
        text = client.model_card(reference)
    if as_json:
        say_json({"model": reference, "card": text})
    else:
        for line in text.splitlines():
            say(line)
