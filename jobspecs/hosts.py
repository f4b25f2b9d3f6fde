"""What machine a host is; why it takes no jobs, and what people can do about each reason."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from types import MappingProxyType

from pydantic import BaseModel


class GpuDevice(BaseModel):
    """A GPU as its driver tells of it. Bytes, °C."""

    index: int
    uuid: str
    #: What the driver calls it, such as NVIDIA H200.
    name: str
    memory_bytes: int
    memory_used_bytes: int
    #: Share of the last moment in which it computed, 0 to 1.
    load: float | None = None
    temperature_c: int | None = None
    #: What is wrong with it, for people; null: nothing that the driver knows of.
    problem: str | None = None


class Machine(BaseModel):
    """What a host is made of, and how busy it is."""

    #: That the worker may use.
    cpus: int
    #: Processes that ran or waited for a CPU, on average over the last minute.
    load_1m: float
    #: Empty without NVIDIA's driver.
    gpus: list[GpuDevice] = []


def smallest_gpu_bytes(gpus: Sequence[GpuDevice]) -> int | None:
    """Memory that each of them has; None where nobody knows."""
    return min((gpu.memory_bytes for gpu in gpus), default=None)


class HostReason(StrEnum):
    """Why a live worker accepts no jobs."""

    stopping = "stopping"
    starting = "starting"
    disk_full = "disk_full"
    clock_off = "clock_off"
    unkillable = "unkillable"
    draining = "draining"


HOST_REMEDIES: MappingProxyType[str, str] = MappingProxyType(
    {
        HostReason.stopping: "Start the worker again when it has ended.",
        HostReason.starting: "Wait until its libraries are loaded; when it stays like this, read the worker's log.",
        HostReason.disk_full: "Free space on its scratch disk (EIGENWERK_SCRATCH_DIR), or lower "
        "EIGENWERK_SCRATCH_FREE_MIN_BYTES.",
        HostReason.clock_off: "Set its clock, by NTP best; the object store refuses signatures of a wrong time.",
        HostReason.unkillable: "A process of a job outlived SIGKILL and may hold a GPU: restart the machine.",
        HostReason.draining: "It is being left; `eigenwerk hosts undrain NAME` uses it again.",
    }
)


def remedy_of(reason: str | None) -> str | None:
    """None without a reason, and for one that this version doesn't know: a newer worker may announce it."""
    return HOST_REMEDIES.get(reason) if reason is not None else None
