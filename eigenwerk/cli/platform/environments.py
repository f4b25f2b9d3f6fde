"""env: build, list."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from eigenwerk.cli.console import JsonOption
from eigenwerk.connection import default_home
from eigenwerk.errors import EigenwerkError

commands = typer.Typer(invoke_without_command=True)

#: The module that builds them; it is started, never imported.
_BUILDER = "deploy.environments"

HomeOption = Annotated[
    Path | None, typer.Option(help="The data directory; $EIGENWERK_HOME or ~/.local/share/eigenwerk if absent.")
]


@commands.callback()
def env(context: typer.Context, as_json: JsonOption = False) -> None:
    """Environments of engines and runners whose libraries can't share the platform's own: list, build.

    Example: eigenwerk env build vllm-cpu
    """
    if context.invoked_subcommand is None:
        _hand_over("list", None, as_json)


@commands.command()
def build(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of `eigenwerk env list`.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build an environment on this machine from its lock file, unless it is there already. It downloads with pip.

    Example: eigenwerk env build vllm-cpu
    """
    _hand_over("build", home, as_json, name)


@commands.command("list")
def list_environments(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the environments, and which are built on this machine.

    Example: eigenwerk env list
    """
    _hand_over("list", home, as_json)


def _hand_over(command: str, home: Path | None, as_json: bool, *words: str) -> None:
    """The builder takes this process's place. Raises EigenwerkError where it is not installed."""
    if importlib.util.find_spec("deploy") is None or importlib.util.find_spec(_BUILDER) is None:
        raise EigenwerkError(
            "This is the client alone. Install the platform too: pip install 'eigenwerk[server,embedded]'"
        )
    chosen = os.environ.get("EIGENWERK_ENVIRONMENTS_DIR")
    root = (home or default_home()) / "environments" if home is not None or not chosen else Path(chosen)
    flags = ["--root", str(root), *(["--json"] if as_json else [])]
    os.execv(sys.executable, [sys.executable, "-m", _BUILDER, command, *flags, *words])  # noqa: S606
