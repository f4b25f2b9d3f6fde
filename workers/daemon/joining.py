"""How a worker is started on another machine: a file of settings, and a join token.

The settings hold the database's password, so the token keeps nobody out who wants in (decision 30). It makes joining
something that an administrator meant: a machine that gets the file with a copied disk does not join.
"""

from __future__ import annotations

import argparse
import logging
import os
import stat
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from jobspecs.file_errors import why_not
from storage.database import Database

log = logging.getLogger(__name__)

TOKEN = "EIGENWERK_JOIN_TOKEN"  # noqa: S105 - the variable's name
_INVITE = "Let an administrator make one: eigenwerk hosts invite"


class MayNotJoin(Exception):
    """The worker has no valid join token, and its host has not joined before."""


def read_command_line(program: str, environment: MutableMapping[str, str] | None = None) -> bool:
    """Takes `--settings FILE` into the environment, which has precedence; returns whether the host has to join.

    Raises ValueError for a file that can't be used.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("--settings", type=Path, help="a file of lines NAME=value; what the environment has counts")
    parser.add_argument("--join", action="store_true", help=f"the host must have joined, or {TOKEN} be valid")
    arguments = parser.parse_args()
    if arguments.settings is not None:
        values = os.environ if environment is None else environment
        for name, value in read_settings(arguments.settings).items():
            values.setdefault(name, value)
    return bool(arguments.join)


def read_settings(path: Path) -> dict[str, str]:
    """Lines `NAME=value`, as systemd and Docker read them; blank lines and those with a `#` in front are passed over.

    Raises ValueError for a file that others may read, that can't be read, or with another line.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            status = os.fstat(stream.fileno())
            if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ValueError(f"{path} holds passwords and others may read it: chmod 600 {path}")
            lines = stream.read().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file: {error}.") from error
    except OSError as error:
        raise ValueError(f"{path} can't be read: {why_not(error)}.") from error
    settings = {}
    for number, line in enumerate(lines, 1):
        name, equals, value = line.partition("=")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not equals or not name.strip().isidentifier():
            raise ValueError(f"{path}, line {number}: this is no NAME=value.")
        settings[name.strip()] = _unquoted(value.strip())
    return settings


def admit(database: Database, host: str, environment: Mapping[str, str] | None = None) -> None:
    """Notes that the host has joined. One that has joined before needs no token any more.

    An administrator's token does as well: `admin` includes `join`. Raises MayNotJoin.
    """
    token = (os.environ if environment is None else environment).get(TOKEN)
    with database.unit_of_work() as work:
        row = work.users.authenticate(token) if token else None
        if row is not None and {"join", "admin"} & set(row.scopes):
            work.hosts.join(host)
            log.info("host %s has joined with the token %s…", host, row.hint)
        elif not work.hosts.has_joined(host):
            what = f"{TOKEN} is no join token, or has expired or been revoked" if token else f"{TOKEN} is not set"
            raise MayNotJoin(f"The host {host} has not joined this platform, and {what}. {_INVITE}")


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value
