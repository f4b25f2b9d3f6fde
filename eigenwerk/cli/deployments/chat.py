"""chat."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any

import typer

from eigenwerk.cli.console import JsonOption, note, platform, say, say_json
from eigenwerk.client import Client
from eigenwerk.errors import EigenwerkError
from eigenwerk.reports.watch import printable

commands = typer.Typer()

_PROMPT = "> "


@commands.command()
def chat(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The deployment's name.")],
    message: Annotated[
        str | None, typer.Argument(metavar="[MESSAGE]", help="What to say, or - for stdin; without it: a dialogue.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="What the model shall be and do.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of an answer at most.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="0: always the same answer; higher: more varied.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Equal seeds give equal answers.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Talk with a deployed language model. In a dialogue, Ctrl-C ends an answer, Ctrl-D the dialogue.

    Example: eigenwerk chat smollm2 "What is a language model?"
    """
    messages = [{"role": "system", "content": system}] if system else []
    settings = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    if message is None and not sys.stdin.isatty():
        message = "-"
    with platform() as client:
        if message is None:
            if as_json:
                raise typer.BadParameter("a dialogue has no JSON: give the MESSAGE.", param_hint="--json")
            _dialogue(client, name, messages, settings)
            return
        said = sys.stdin.read().rstrip("\n") if message == "-" else message
        if not said:
            raise EigenwerkError("There was nothing on stdin.")
        messages.append({"role": "user", "content": said})
        if as_json:
            say_json(client.chat(name, messages, **settings))
        else:
            _shown(client.stream_chat(name, messages, **settings))


def _dialogue(client: Client, name: str, messages: list[dict[str, str]], settings: dict[str, Any]) -> None:
    """Until Ctrl-D. The model sees all that was said."""
    while True:
        try:
            said = input(_PROMPT).strip()
        except EOFError:
            say()
            return
        if not said:
            continue
        messages.append({"role": "user", "content": said})
        try:
            answer = _shown(client.stream_chat(name, messages, **settings))
        except EigenwerkError as error:
            # Such as: the conversation has become too long. What was said before still counts.
            note(f"error: {error}")
            messages.pop()
        else:
            messages.append({"role": "assistant", "content": answer})


def _shown(pieces: Iterator[str]) -> str:
    """Writes the pieces as they come; returns the whole. Ctrl-C ends the answer, and what there is of it counts."""
    text = ""
    with suppress(KeyboardInterrupt):
        for piece in pieces:
            text += piece
            sys.stdout.write("\n".join(printable(line) for line in piece.split("\n")))
            sys.stdout.flush()
    sys.stdout.write("\n")
    return text
