"""Whether a deployment has a place: what it needs and what hosts have go in, a problem or None comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobspecs.problems import Problem

_GIB = 2**30


@dataclass(frozen=True)
class Needs:
    """Main memory in bytes and whole GPUs, of all replicas together; also what a host has of them."""

    memory_bytes: int
    gpus: int = 0
    #: Memory of each GPU, in bytes; None: of a host that does not tell.
    gpu_bytes: int | None = 0

    def fit(self, room: Needs) -> bool:
        enough = room.gpu_bytes is None or not self.gpus or (self.gpu_bytes or 0) <= room.gpu_bytes
        return self.memory_bytes <= room.memory_bytes and self.gpus <= room.gpus and enough

    def __str__(self) -> str:
        each = f" with {self.gpu_bytes / _GIB:.2f} GiB each" if self.gpu_bytes else ""
        return f"{self.memory_bytes / _GIB:.2f} GiB of memory" + (f" and {self.gpus} GPUs{each}" if self.gpus else "")


def why_no_host_serves(needs: Needs, hosts: Sequence[Needs], parts: str = "") -> Problem | None:
    """Why no known host, even an empty one, could serve it. None when one could, or when no host is known yet.

    `parts`: what the needs of one replica consist of, for people.
    """
    if not hosts or any(needs.fit(host) for host in hosts):
        return None
    largest = max(hosts, key=lambda host: (host.gpus >= needs.gpus, host.gpu_bytes or 0, host.memory_bytes))
    enough_gpus = largest.gpus >= needs.gpus and Needs(0, needs.gpus, needs.gpu_bytes).fit(largest)
    why = f" Each replica: {parts}." if parts else ""
    return Problem(
        field="memory_gib" if enough_gpus else "gpus",
        message=f"the deployment needs {needs}; no host has that (the largest has {largest}).{why}",
        remedy="Ask for less, such as a shorter context or fewer answers at once, use fewer replicas, or add a worker.",
    )


def why_it_cannot_stay(needs: Needs, host: str, room: Needs) -> Problem | None:
    """Why a deployment that is being served can't grow to this on its host. `room`: what is free, its own included."""
    if needs.fit(room):
        return None
    return Problem(
        field="gpus" if room.gpus < needs.gpus else "memory_gib",
        message=f"the deployment is served on {host} and would need {needs}; beside jobs and other deployments that "
        f"host has {Needs(max(0, room.memory_bytes), max(0, room.gpus))}.",
        remedy="It is served on as it was. Ask for less, wait until jobs there have ended, or undeploy it and deploy "
        "it again, so that another host can take it.",
    )


def why_it_waits_for_room(needs: Needs, rooms: Mapping[str, Needs]) -> str | None:
    """Why no host serves it now; None when one has room. `rooms`: what is free, by host that could serve it."""
    if any(needs.fit(room) for room in rooms.values()):
        return None
    if not rooms:
        return "No inference worker that lives could serve it."
    free = "; ".join(
        f"{host} has {Needs(max(0, room.memory_bytes), max(0, room.gpus))}" for host, room in rooms.items()
    )
    return f"It needs {needs}, and beside jobs and other deployments {free}. It starts when there is room."
