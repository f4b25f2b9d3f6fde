"""Why a queued job does not start, as far as its hosts are the reason."""

from __future__ import annotations

from jobspecs.hosts import remedy_of
from jobspecs.lifecycle import JobState
from storage.database import UnitOfWork
from storage.tables import HostRow, JobRow


def why_waiting(work: UnitOfWork, row: JobRow) -> str | None:
    """One line for people; None for a job that is not queued, or that only waits for its turn."""
    if row.state != JobState.queued:
        return None
    if row.not_before is not None and row.not_before > work.hosts.clock():
        return f"It is tried again at {row.not_before:%H:%M:%S} UTC."
    hosts = [host for host in work.hosts.alive() if _is_large_enough(host, row)]
    if not hosts:
        return "No worker that is large enough is connected. Start one: eigenwerk up, or python -m workers.agent"
    if any(host.accepting for host in hosts):
        return None
    return " ".join(_told(host) for host in hosts)


def _is_large_enough(host: HostRow, row: JobRow) -> bool:
    return host.slots >= row.slots and host.memory_bytes >= row.memory_bytes and host.gpus >= row.gpus


def _told(host: HostRow) -> str:
    if host.reason is None:
        return f"Host {host.name} takes no jobs."
    told = (f"Host {host.name} takes no jobs ({host.reason}).", host.message, remedy_of(host.reason))
    return " ".join(part for part in told if part)
