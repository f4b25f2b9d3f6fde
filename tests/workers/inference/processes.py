"""What Linux's /proc says of processes."""

from __future__ import annotations

import re
from pathlib import Path

_LISTEN = "0A"


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def children_of(pid: int) -> list[int]:
    """The running processes that this one has started."""
    try:
        listed = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [child for child in map(int, " ".join(listed).split()) if is_running(child)]


def listens_on(pid: int, port: int) -> bool:
    """Whether the process has a TCP socket that takes connections on this port of IPv4."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {line[9] for line in lines if line[3] == _LISTEN and int(line[1].rpartition(":")[2], 16) == port}
    try:
        links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(match[1] in inodes for link in links if (match := re.fullmatch(r"socket:\[(\d+)\]", link)))


def arguments_and_variables(pid: int) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment that the process was started with."""
    arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    variables = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
    return arguments, dict(variable.split("=", 1) for variable in variables)
