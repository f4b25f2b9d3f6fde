"""Reads from the database what a scheduling decision may depend on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from scheduling.decisions import Host, Resources, Running, Snapshot, Waiting
from storage.database import UnitOfWork
from storage.repositories.jobs.queue import Place, QueuedJob
from storage.repositories.serving.engine_holds import Taken
from storage.tables import HostRow

#: Seconds that an attempt holds its place beyond `max_runtime`, which counts while its child works: files are fetched
#: before, and the result is sent afterwards. A base model of 16 GB takes 130 s over a gigabit.
BESIDE_RUNTIME_S = 300.0


def take_snapshot(work: UnitOfWork) -> Snapshot:
    """The heads of the queue, and live hosts that accept jobs with what deployments leave of them and their jobs."""
    hosts = _hosts(work, work.queue.places(), work.hosts.alive())
    # Each start takes a slot. With every one taken nothing can start, and the queue need not be read at every commit.
    rooms = [host.free for host in hosts if host.free.slots > 0]
    return Snapshot([_waiting(job) for job in work.queue.heads(rooms)] if rooms else [], hosts)


def fits_now(work: UnitOfWork, job_id: UUID, host_name: str) -> bool:
    """Whether the job fits the host at this moment. The host stays locked until the transaction ends."""
    work.hosts.lock(host_name)
    job = work.jobs.get(job_id)
    known = [host for host in work.hosts.alive() if host.name == host_name]
    needs = None if job is None else Resources(job.slots, job.memory_bytes, job.gpus)
    return needs is not None and any(host.can_take(needs) for host in _hosts(work, work.queue.places(host_name), known))


def _hosts(work: UnitOfWork, places: Iterable[Place], rows: Iterable[HostRow]) -> list[Host]:
    running: dict[str, list[Running]] = defaultdict(list)
    for place in places:
        running[place.host].append(Running(Resources(place.slots, place.memory_bytes, place.gpus), _ends_in_s(place)))
    # A deployment does not end by waiting for it, so what it takes is no part of the capacity that a large job may
    # wait for: counted as merely in use, it would let such a job hold back the whole queue for ever.
    served = work.engine_holds.taken_by_host()
    return [
        Host(
            name=row.name,
            total=_beside(row, served.get(row.name, Taken())),
            running=tuple(running[row.name]),
        )
        for row in rows
        if row.accepting and row.slots > 0
    ]


def _beside(row: HostRow, served: Taken) -> Resources:
    return Resources(row.slots, max(0, row.memory_bytes - served.memory_bytes), max(0, row.gpus - served.gpus))


def _ends_in_s(place: Place) -> float:
    """Seconds until the place is given back. What is late by a minute is expected to take another one, and so on:

    a reservation must not wait for ever for a host where something hangs, while others become free.
    """
    return abs(place.max_runtime_s + BESIDE_RUNTIME_S - place.held_s)


def _waiting(job: QueuedJob) -> Waiting:
    return Waiting(
        job_id=job.id,
        owner_id=job.owner_id,
        priority=job.priority,
        order=job.submitted_order,
        needs=Resources(job.slots, job.memory_bytes, job.gpus),
        time_limit_s=job.max_runtime_s + BESIDE_RUNTIME_S,
        avoid_hosts=frozenset(job.avoided_hosts),
        followed=job.followed,
        boost=job.boost,
    )
