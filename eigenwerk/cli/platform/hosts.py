"""hosts, and the workers that make a machine one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from eigenwerk.cli.console import JsonOption, age, note, platform, say, say_json, say_json_line, say_table
from eigenwerk.cli.platform.commands import runner
from eigenwerk.resources import Host

commands = typer.Typer(invoke_without_command=True)
worker_commands = typer.Typer()
_GIB = 1 << 30

SettingsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Lines NAME=value that name PostgreSQL, Redis, S3 and the join token; the environment if absent.",
    ),
]


@commands.callback()
def hosts(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the hosts that run jobs or serve models, what they are made of, and why one takes no jobs.

    Example: eigenwerk hosts
    """
    if context.invoked_subcommand is None:
        list_hosts(as_json)


@commands.command("list")
def list_hosts(as_json: JsonOption = False) -> None:
    """List the hosts that run jobs or serve models, what they are made of, and why one takes no jobs.

    Example: eigenwerk hosts list
    """
    with platform() as client:
        found = client.hosts()
    if as_json:
        say_json(found)
        return
    headers = ["NAME", "STATE", "SLOTS", "CPUS", "LOAD", "GIB", "GPUS", "SEEN"]
    say_table(headers, [_row(host) for host in found], "No worker has announced itself: eigenwerk up")
    for host in found:
        if host.engines:
            versions = [f"{name} {told.get('version', '')}".strip() for name, told in sorted(host.engines.items())]
            say(f"{host.name} serves with {', '.join(versions)}")
        for gpu in host.machine.gpus if host.machine else ():
            memory = f"{gpu.memory_used_bytes / _GIB:.1f} of {gpu.memory_bytes / _GIB:.1f} GiB used"
            say(f"{host.name} GPU {gpu.index}: {gpu.name}, {memory}, {gpu.problem or 'healthy'}")


HostName = Annotated[str, typer.Argument(metavar="NAME", help="From `eigenwerk hosts`.")]


@commands.command()
def drain(name: HostName, as_json: JsonOption = False) -> None:
    """Leave a host: no new jobs, and what it serves moves to others. This needs an administrator's token.

    What it serves goes on there until another host serves it. Jobs that run on it run to their end.

    Example: eigenwerk hosts drain gpu-1
    """
    with platform() as client:
        host = client.drain_host(name)
    say_json(host) if as_json else say(
        f"{host.name} is being drained; `eigenwerk deployments` shows what it still serves"
    )


@commands.command()
def undrain(name: HostName, as_json: JsonOption = False) -> None:
    """Use a host again that was drained. This needs an administrator's token.

    Example: eigenwerk hosts undrain gpu-1
    """
    with platform() as client:
        host = client.undrain_host(name)
    say_json(host) if as_json else say(f"{host.name} is used again")


@commands.command()
def invite(
    expires_in: Annotated[str, typer.Option(help="How long a worker may join with it: 30m, 24h.")] = "24h",
    as_json: JsonOption = False,
) -> None:
    """Make a token with which workers of other machines join. This needs an administrator's token.

    Example: eigenwerk hosts invite --expires-in 2h
    """
    with platform() as client:
        token = client.create_token(scopes=["join"], expires_in=expires_in)
    if as_json:
        say_json(token)
        return
    say(token.token or "")
    note("It goes into EIGENWERK_JOIN_TOKEN of the settings that `eigenwerk worker` and `eigenwerk inference` read.")


@worker_commands.command()
def worker(settings: SettingsOption = None, as_json: JsonOption = False) -> None:
    """Run the jobs of a platform on this machine until Ctrl-C.

    With --json, one line with its process id is printed first.

    Example: eigenwerk worker --settings /etc/eigenwerk/settings
    """
    _become("workers.agent", settings, as_json)


@worker_commands.command()
def inference(settings: SettingsOption = None, as_json: JsonOption = False) -> None:
    """Serve models of a platform on this machine until Ctrl-C.

    With --json, one line with its process id is printed first.

    Example: eigenwerk inference --settings /etc/eigenwerk/settings
    """
    _become("workers.inference", settings, as_json)


def _become(module: str, settings: Path | None, as_json: bool) -> NoReturn:
    command = runner(module, "--join", ("--settings", settings))
    if as_json:
        say_json_line({"pid": os.getpid()})
    sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606 - the worker takes this process's place: signals go to it alone


def _row(host: Host) -> list[str]:
    cpus, load = (str(host.machine.cpus), f"{host.machine.load_1m:.1f}") if host.machine else ("-", "-")
    memory = f"{host.memory_bytes / _GIB:.1f}"
    return [host.name, _state(host), str(host.slots), cpus, load, memory, str(host.gpus), age(host.seen_at)]


def _state(host: Host) -> str:
    if not host.alive:
        return "gone"
    if host.draining:
        return "is drained"
    if host.accepting:
        return "takes jobs"
    told = " ".join(part for part in (host.message, host.remedy) if part)
    # A host without a worker for jobs gives no reason.
    return "takes no jobs" + (f" ({host.reason})" if host.reason else "") + (f": {told}" if told else "")
