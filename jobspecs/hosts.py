"""Why a host takes no jobs, and what people can do about each reason."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType


class HostReason(StrEnum):
    """Why a live worker accepts no jobs."""

    stopping = "stopping"
    starting = "starting"
    disk_full = "disk_full"
    clock_off = "clock_off"
    unkillable = "unkillable"


HOST_REMEDIES: MappingProxyType[str, str] = MappingProxyType(
    {
        HostReason.stopping: "Start the worker again when it has ended.",
        HostReason.starting: "Wait until its libraries are loaded; when it stays like this, read the worker's log.",
        HostReason.disk_full: "Free space on its scratch disk (EIGENWERK_SCRATCH_DIR), or lower "
        "EIGENWERK_SCRATCH_FREE_MIN_BYTES.",
        HostReason.clock_off: "Set its clock, by NTP best; the object store refuses signatures of a wrong time.",
        HostReason.unkillable: "A process of a job outlived SIGKILL and may hold a GPU: restart the machine.",
    }
)


def remedy_of(reason: str | None) -> str | None:
    """None without a reason, and for one that this version doesn't know: a newer worker may announce it."""
    return HOST_REMEDIES.get(reason) if reason is not None else None
