"""Reads from the database what a scheduling decision may depend on."""

from __future__ import annotations

from collections import defaultdict
from uuid import UUID

from scheduling.decisions import Host, Snapshot, Waiting
from storage.database import UnitOfWork
from storage.repositories.deployments import Taken
from storage.tables import JobRow


def take_snapshot(work: UnitOfWork) -> Snapshot:
    """Waiting jobs, and live hosts that accept jobs with what deployments leave of them and what jobs use."""
    hosts = _hosts(work)
    # With every slot taken nothing can start, and a backlog of thousands need not be read at every commit.
    room = any(host.slots_used < host.slots_total for host in hosts)
    return Snapshot(waiting=[_waiting(job) for job in work.queue.waiting()] if room else [], hosts=hosts)


def _hosts(work: UnitOfWork) -> list[Host]:
    slots: dict[str, int] = defaultdict(int)
    memory: dict[str, int] = defaultdict(int)
    gpus: dict[str, int] = defaultdict(int)
    for job in work.queue.active():
        if job.host is not None:
            slots[job.host] += job.slots
            memory[job.host] += job.memory_bytes
            gpus[job.host] += job.gpus
    # A deployment does not end by waiting for it, so what it takes is no part of the capacity that a large job may
    # wait for: counted as merely in use, it would let such a job hold back the whole queue for ever.
    served = work.deployments.taken_by_host()
    return [
        Host(
            name=host.name,
            slots_total=host.slots,
            memory_bytes_total=max(0, host.memory_bytes - served.get(host.name, Taken()).memory_bytes),
            gpus_total=max(0, host.gpus - served.get(host.name, Taken()).gpus),
            slots_used=slots[host.name],
            memory_bytes_used=memory[host.name],
            gpus_used=gpus[host.name],
        )
        for host in work.hosts.alive()
        if host.accepting and host.slots > 0
    ]


def fits_now(work: UnitOfWork, job_id: UUID, host_name: str) -> bool:
    """Whether the job fits the host at this moment. The host stays locked until the transaction ends."""
    work.hosts.lock(host_name)
    job = work.jobs.get(job_id)
    host = next((host for host in _hosts(work) if host.name == host_name), None)
    return job is not None and host is not None and host.can_take(_waiting(job))


def _waiting(job: JobRow) -> Waiting:
    return Waiting(
        job_id=job.id,
        priority=job.priority,
        order=job.submitted_order,
        slots=job.slots,
        memory_bytes=job.memory_bytes,
        gpus=job.gpus,
        avoid_hosts=frozenset(job.avoided_hosts),
    )
