"""mcp: the platform as tools for assistants."""

from __future__ import annotations

import importlib.util
import os
from typing import Annotated

import typer

from eigenwerk.cli.console import JsonOption, note, platform, say_json_line
from eigenwerk.connection import find_connection
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
    if http:
        from eigenwerk.mcp_server.http import HOST, PATH, serve_http

        address = f"http://{HOST}:{port}{PATH}"
        say_json_line({"url": address}) if as_json else note(f"The tools are at {address}; Ctrl-C ends it.")
        serve_http(os.environ.get("EIGENWERK_URL") or find_connection().url, port, allow_writes=allow_writes)
        return
    from eigenwerk.mcp_server.server import serve_stdio

    with platform() as client:
        serve_stdio(client, allow_writes=allow_writes)
