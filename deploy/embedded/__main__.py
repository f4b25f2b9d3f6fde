"""`python -m deploy.embedded up`: the platform on this machine, until Ctrl-C; and its `backup` and `restore`."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.embedded.api_address import DEFAULT_PORT
from deploy.embedded.backups import backup, restore
from deploy.embedded.errors import EmbeddedError, full_disk, is_full
from deploy.embedded.home import home_path
from deploy.embedded.platform import Options, run
from deploy.embedded.stopping import StopRequested, StopSignals
from jobspecs.file_errors import why_not


def main() -> int:
    """Returns the exit code: 0 after a stop that was asked for, 1 when the platform could not run (2: usage)."""
    arguments = _parser().parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    stops = StopSignals()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stops)
    try:
        if arguments.command == "up":
            run(
                Options(
                    arguments.home,
                    arguments.port,
                    arguments.slots,
                    arguments.ready_file,
                    arguments.tls_cert,
                    arguments.tls_key,
                ),
                stops,
            )
        if arguments.command == "backup":
            result = backup(arguments.home, arguments.folder, with_secrets=arguments.with_secrets, keep=arguments.keep)
        else:
            result = restore(arguments.home, arguments.folder)
        sys.stdout.write(f"{json.dumps(result) if arguments.json else _sentence(arguments.command, result)}\n")
        return 0
    except StopRequested:
        logging.info("stopped")
        return 0
    except EmbeddedError as error:
        logging.error("error: %s", error)
        return 1
    except OSError as error:
        home = home_path(arguments.home)
        why = full_disk(home) if is_full(error) else f"{error.filename or home} can't be used: {why_not(error)}"
        logging.error("error: %s", why)
        return 1


def _sentence(command: str, result: Mapping[str, object]) -> str:
    done = "Saved" if command == "backup" else "Restored"
    megabytes = int(str(result["bytes"])) / 1e6
    return f"{done} {result['backup']}: {result['objects']} objects, {megabytes:.1f} MB, schema {result['revision']}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.embedded", description="Run Eigenwerk on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start everything and keep it running until Ctrl-C")
    up.add_argument("--port", type=_port, help=f"port of the API (default: {DEFAULT_PORT}, or a free one)")
    up.add_argument("--slots", type=_positive, help="jobs that may run at once (default: one per CPU core)")
    up.add_argument("--tls-cert", type=Path, help="a certificate in PEM: the API serves https")
    up.add_argument("--tls-key", type=Path, help="its key, in PEM, without a password")
    up.add_argument("--ready-file", type=Path, help="a file to write the API's URL to when everything is ready")
    save = commands.add_parser("backup", help="save everything into a folder; the platform may run")
    save.add_argument("--with-secrets", action="store_true", help="with the administrator's token, readable")
    save.add_argument("--keep", type=_positive, help="remove all but so many backups, the newest, afterwards")
    load = commands.add_parser("restore", help="restore the newest backup of a folder into an empty home")
    for command in (save, load):
        command.add_argument("folder", type=Path)
        command.add_argument("--json", action="store_true", help="print one line of JSON")
    for command in (up, save, load):
        default = "$EIGENWERK_HOME or ~/.local/share/eigenwerk"
        command.add_argument("--home", type=Path, help=f"data directory (default: {default})")
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is not between 1 and 65535")
    return port


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
