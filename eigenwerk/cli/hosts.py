"""hosts."""

from __future__ import annotations

import typer

from eigenwerk.cli.console import JsonOption, age, platform, say_json, say_table
from eigenwerk.resources import Host

commands = typer.Typer()
_GIB = 1 << 30


@commands.command()
def hosts(as_json: JsonOption = False) -> None:
    """List the hosts that run jobs, and why one takes none.

    Example: eigenwerk hosts
    """
    with platform() as client:
        found = client.hosts()
    if as_json:
        say_json(found)
        return
    rows = [
        [host.name, _state(host), str(host.slots), f"{host.memory_bytes / _GIB:.1f}", str(host.gpus), age(host.seen_at)]
        for host in found
    ]
    say_table(["NAME", "STATE", "SLOTS", "GIB", "GPUS", "SEEN"], rows, "No worker has announced itself: eigenwerk up")


def _state(host: Host) -> str:
    if not host.alive:
        return "gone"
    if host.accepting:
        return "takes jobs"
    told = " ".join(part for part in (host.message, host.remedy) if part)
    return f"takes no jobs ({host.reason})" + (f": {told}" if told else "")
