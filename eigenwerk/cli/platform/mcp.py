"""mcp: the platform as tools for assistants."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Annotated

import typer

from eigenwerk.cli.console import JsonOption, note, say_json_line
from eigenwerk.errors import EigenwerkError

commands = typer.Typer()

DEFAULT_PORT = 8490


@commands.command()
def mcp(
    http: Annotated[bool, typer.Option("--http", help="Streamable HTTP on 127.0.0.1 instead of stdio.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of --http.")] = DEFAULT_PORT,
    allow_writes: Annotated[
        bool, typer.Option("--allow-writes", help="Also tools that change something, where the token may.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Serve the platform as tools of the Model Context Protocol, which only read: docs/mcp.md.

    By stdio it has the rights of your token; by HTTP each request brings its own. With --json and --http, one line with
    the url is printed before it serves.

    Example: eigenwerk mcp --allow-writes
    """
    if importlib.util.find_spec("mcp") is None:
        raise EigenwerkError("This needs the Model Context Protocol's own library: pip install 'eigenwerk[mcp]'")
    command = [sys.executable, "-m", "eigenwerk.mcp_server", *(["--allow-writes"] if allow_writes else [])]
    if http:
        address = f"http://127.0.0.1:{port}/mcp"
        say_json_line({"url": address}) if as_json else note(f"The tools are at {address}; Ctrl-C ends it.")
        command += ["--http-port", str(port)]
    # It takes this process's place: stdin and signals are its own.
    os.execv(sys.executable, command)  # noqa: S606
