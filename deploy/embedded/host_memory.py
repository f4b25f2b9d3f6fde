"""How much memory this machine has for jobs and models, by its size and by the limits of its control group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

#: Left for the operating system, the servers and the API.
MEMORY_RESERVE_BYTES = 4 * 2**30
MEMORY_LEAST_BYTES = 2 * 2**30

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def host_memory_bytes(cgroups: Path = _CGROUPS, own_cgroups: Path = _OWN_CGROUPS) -> int:
    """What jobs and models may use: the memory without the reserve. A container's limit counts as its memory."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(min([physical, *_limits_bytes(cgroups, own_cgroups)]) - MEMORY_RESERVE_BYTES, MEMORY_LEAST_BYTES)


def _limits_bytes(cgroups: Path, own_cgroups: Path) -> Iterator[int]:
    """The limits of this process's control groups and of those around them, version 2 and version 1."""
    for file in _limit_files(cgroups, own_cgroups):
        if file.is_file():
            limit = file.read_text().strip()
            if limit != "max":
                yield int(limit)


def _limit_files(cgroups: Path, own_cgroups: Path) -> Iterator[Path]:
    # In a container the path of its group may not exist below the mount; what is mounted is then the group itself.
    lines = own_cgroups.read_text().splitlines() if own_cgroups.is_file() else []
    for line in ["0::/", "0:memory:/", *lines]:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (cgroups / "memory", "memory.limit_in_bytes") if controllers else (cgroups, "memory.max")
        group = Path(path.lstrip("/"))
        yield from (root / part / name for part in (group, *group.parents))
