"""up, backup, restore and schema."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from eigenwerk.cli.console import JsonOption, platform, say_json, say_json_line
from eigenwerk.connection import PLATFORM_FILE, default_home, read_platform_file
from eigenwerk.errors import EigenwerkError

commands = typer.Typer()

#: The module that runs the platform; it is started, never imported.
_RUNNER = "deploy.embedded"
_POLL_S = 0.2

HomeOption = Annotated[
    Path | None, typer.Option(help="The data directory; $EIGENWERK_HOME or ~/.local/share/eigenwerk if absent.")
]


@commands.command()
def up(
    home: HomeOption = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The API's port; 8480 or a free one if absent.")
    ] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Jobs at once; one per CPU core if absent.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="A certificate in PEM: the API serves https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, in PEM, without a password.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the whole platform on this machine until Ctrl-C. What it stores is there again the next time.

    With --json, one line with url, home and pid is printed when it is ready.

    Example: eigenwerk up --slots 1
    """
    command = runner(_RUNNER, "up", ("--home", home), ("--port", port), ("--slots", slots))
    command += [
        word for name, path in (("--tls-cert", tls_cert), ("--tls-key", tls_key)) if path for word in (name, str(path))
    ]
    if not as_json:
        os.execv(sys.executable, command)  # noqa: S606 - the platform takes this process's place: signals go to it alone
    raise typer.Exit(_run_and_announce(command, home or default_home()))


@commands.command()
def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where backups are kept; made when missing.")],
    home: HomeOption = None,
    with_secrets: Annotated[
        bool,
        typer.Option(help="Include the administrator's token, readable. Of other tokens only hashes are saved."),
    ] = False,
    keep: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Afterwards remove all backups of DIR but the newest N, this one included."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Save the platform of this machine, while it runs or not. Objects that DIR has already are not copied again.

    Checkpoints are not saved: jobs that are under way start anew when the backup is restored.

    Example: eigenwerk backup /mnt/backups/eigenwerk --keep 7
    """
    flags = (*(["--with-secrets"] if with_secrets else []), *(["--json"] if as_json else []))
    command = runner(_RUNNER, "backup", ("--home", home), ("--keep", keep))
    os.execv(sys.executable, [*command, *flags, "--", str(folder)])  # noqa: S606


@commands.command()
def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that `backup` was given.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore the newest backup of DIR into a new, empty data directory; then start it with `eigenwerk up`.

    Example: eigenwerk restore /mnt/backups/eigenwerk --home ~/eigenwerk
    """
    command = runner(_RUNNER, "restore", ("--home", home))
    os.execv(sys.executable, [*command, *(["--json"] if as_json else []), "--", str(folder)])  # noqa: S606


@commands.command()
def schema(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help="A job kind; without it the kinds are listed.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the JSON Schema of a job kind, for editors and generators. It is JSON with and without --json.

    Example: eigenwerk schema train-classifier > train-classifier.schema.json
    """
    with platform() as client:
        say_json(client.schema(kind) if kind else client.kinds())


def runner(module: str, *words: str | tuple[str, object]) -> list[str]:
    """The command line of one of the platform's own programs; options without a value are left out.

    Raises EigenwerkError where the platform is not installed.
    """
    room = module.partition(".")[0]
    if importlib.util.find_spec(room) is None or importlib.util.find_spec(module) is None:
        raise EigenwerkError(
            "This is the client alone. Install the platform too: pip install 'eigenwerk[server,embedded]'"
        )
    given = [(word,) if isinstance(word, str) else word for word in words]
    return [sys.executable, "-m", module, *(str(part) for word in given if word[-1] is not None for part in word)]


def _run_and_announce(command: list[str], home: Path) -> int:
    """Runs the platform as a child, passes signals on, prints one line when it is ready; returns its exit code."""
    with tempfile.TemporaryDirectory(prefix="eigenwerk-up-") as folder:
        ready = Path(folder) / "ready"
        # A group of its own: Ctrl-C in a terminal would reach it beside what is passed on, and twice means at once.
        process = subprocess.Popen([*command, "--ready-file", str(ready)], stdin=subprocess.DEVNULL, process_group=0)

        def pass_on(number: int, frame: FrameType | None) -> None:
            process.send_signal(number)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, pass_on)
        while process.poll() is None and not ready.exists():
            time.sleep(_POLL_S)
        if process.poll() is None:
            connection = read_platform_file(home / PLATFORM_FILE)
            say_json_line({"url": connection.url if connection else None, "home": str(home), "pid": process.pid})
        return process.wait()
