"""pg_dump and pg_restore: which ones, and how they are told where the database is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from storage.backups.archive import BackupError

#: libpq's environment variables by the parameters of a connection: all users see the arguments of a program.
_VARIABLES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
}


def plain_url(database_url: str) -> str:
    """As libpq takes it."""
    return database_url.replace("postgresql+psycopg://", "postgresql://", 1)


def run(name: str, arguments: Sequence[str], *, database_url: str, server_version: int, programs: Path | None) -> None:
    """Runs pg_dump or pg_restore on the database. Raises BackupError with what it said."""
    parameters = conninfo_to_dict(plain_url(database_url))
    settings = {_VARIABLES[key]: str(value) for key, value in parameters.items() if key in _VARIABLES}
    done = subprocess.run(
        [str(_program(name, server_version, programs)), *arguments],
        env={"PATH": os.defpath, "LC_ALL": "C", **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BackupError(f"{name} failed: {done.stderr.strip() or f'exit code {done.returncode}'}")


def server_version(connection: psycopg.Connection) -> int:
    """The major version, such as 16."""
    return connection.info.server_version // 10_000


def _program(name: str, server_version: int, programs: Path | None) -> Path:
    """The one in `programs`, else the host's; the first that is not older than the server."""
    own, hosts = programs / name if programs else None, shutil.which(name)
    for path in (own, Path(hosts) if hosts else None):
        if path is not None and path.exists() and _version(path) >= server_version:
            return path
    raise BackupError(
        f"no {name} of PostgreSQL {server_version} or newer is on this machine; install `postgresql-client` of that "
        "version"
    )


def _version(program: Path) -> int:
    answer = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    match = re.search(r"\) (\d+)", answer)
    return int(match[1]) if match else 0
