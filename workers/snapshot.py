"""Reads from the database what a scheduling decision may depend on."""

from __future__ import annotations

from collections import defaultdict

from scheduling.decisions import Host, Snapshot, Waiting
from storage.database import UnitOfWork


def take_snapshot(work: UnitOfWork) -> Snapshot:
    """Waiting jobs, and live hosts that accept jobs with what is in use on them by jobs and deployments."""
    slots: dict[str, int] = defaultdict(int)
    memory: dict[str, int] = defaultdict(int, work.deployments.memory_bytes_by_host())
    gpus: dict[str, int] = defaultdict(int)
    for job in work.jobs.active():
        if job.host is not None:
            slots[job.host] += job.slots
            memory[job.host] += job.memory_bytes
            gpus[job.host] += job.gpus
    hosts = [
        Host(
            name=host.name,
            slots_total=host.slots,
            memory_bytes_total=host.memory_bytes,
            gpus_total=host.gpus,
            slots_used=slots[host.name],
            memory_bytes_used=memory[host.name],
            gpus_used=gpus[host.name],
        )
        for host in work.hosts.alive()
        if host.accepting and host.slots > 0
    ]
    # With every slot taken nothing can start, and a backlog of thousands need not be read at every commit.
    waiting = [
        Waiting(
            job_id=job.id,
            priority=job.priority,
            order=job.submitted_order,
            slots=job.slots,
            memory_bytes=job.memory_bytes,
            gpus=job.gpus,
        )
        for job in (work.jobs.waiting() if any(host.slots_used < host.slots_total for host in hosts) else ())
    ]
    return Snapshot(waiting=waiting, hosts=hosts)
