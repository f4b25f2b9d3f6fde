"""Which queued job starts where. `decide` is a pure function: the same snapshot always gives the same actions.

Order: higher priority first, then first come first served. A job that fits nowhere at the moment holds back the jobs
behind it *of the same or lower priority* on every host that could ever take it, so a large job is not starved by small
ones that keep slipping past; hosts too small for it stay open to the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued job whose `not_before` has passed. `order` rises with the time of submission."""

    job_id: UUID
    priority: int
    order: int
    slots: int
    memory_bytes: int
    gpus: int = 0
    #: Hosts that could not run it a while ago; it goes there only when no other could ever take it.
    avoid_hosts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Host:
    """A live worker: its capacity and what is in use by jobs and deployments."""

    name: str
    slots_total: int
    memory_bytes_total: int
    gpus_total: int = 0
    slots_used: int = 0
    memory_bytes_used: int = 0
    gpus_used: int = 0

    def could_ever_take(self, job: Waiting) -> bool:
        """Whether the job fits the empty host."""
        return (
            job.slots <= self.slots_total
            and job.memory_bytes <= self.memory_bytes_total
            and job.gpus <= self.gpus_total
        )

    def can_take(self, job: Waiting) -> bool:
        """Whether the job fits what is free now."""
        return (
            self.slots_used + job.slots <= self.slots_total
            and self.memory_bytes_used + job.memory_bytes <= self.memory_bytes_total
            and self.gpus_used + job.gpus <= self.gpus_total
        )

    def with_job(self, job: Waiting) -> Host:
        """The same host with the job on it."""
        return Host(
            name=self.name,
            slots_total=self.slots_total,
            memory_bytes_total=self.memory_bytes_total,
            gpus_total=self.gpus_total,
            slots_used=self.slots_used + job.slots,
            memory_bytes_used=self.memory_bytes_used + job.memory_bytes,
            gpus_used=self.gpus_used + job.gpus,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision may depend on."""

    waiting: Sequence[Waiting]
    hosts: Sequence[Host]


@dataclass(frozen=True, slots=True)
class Assign:
    """Start the job on the host."""

    job_id: UUID
    host: str


Action = Assign


def suited_hosts(job: Waiting, hosts: Iterable[Host]) -> list[Host]:
    """The hosts that could ever take the job, without those that it avoids as long as others are left."""
    able = [host for host in hosts if host.could_ever_take(job)]
    return [host for host in able if host.name not in job.avoid_hosts] or able


def decide(snapshot: Snapshot) -> list[Action]:
    """The starts that this snapshot allows, in order. Never gives out more slots, memory or GPUs than a host has."""
    hosts = {host.name: host for host in sorted(snapshot.hosts, key=lambda host: host.name)}
    reserved: set[str] = set()
    actions: list[Action] = []
    for job in sorted(snapshot.waiting, key=lambda job: (-job.priority, job.order)):
        if len(reserved) == len(hosts):
            break
        suited = suited_hosts(job, hosts.values())
        fitting = [host for host in suited if host.name not in reserved and host.can_take(job)]
        if fitting:
            # The emptiest host first: a job alone on its cores is faster than two that share them.
            best = min(fitting, key=lambda host: (host.slots_used / host.slots_total, host.name))
            hosts[best.name] = best.with_job(job)
            actions.append(Assign(job_id=job.job_id, host=best.name))
        else:
            reserved.update(host.name for host in suited)
    return actions
