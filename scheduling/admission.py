"""Whether the platform could ever do what is asked for: the known hosts go in, a problem or None comes out."""

from __future__ import annotations

from collections.abc import Sequence

from jobspecs.problems import Problem
from scheduling.decisions import Host, Resources

_GIB = 2**30


def why_no_host_fits(needs: Resources, hosts: Sequence[Host]) -> Problem | None:
    """Why no known host, even an empty one, has what a job needs. None when one has, or when no host is known yet."""
    if not hosts or any(host.could_ever_take(needs) for host in hosts):
        return None
    if needs.gpus > max(host.total.gpus for host in hosts):
        most = max(host.total.gpus for host in hosts)
        return Problem(
            field="resources.gpus",
            message=f"the job asks for {needs.gpus} GPUs; the largest host has {most}.",
            remedy="Ask for fewer, or add a worker.",
        )
    largest = max(host.total.memory_bytes for host in hosts)
    return Problem(
        field="resources.memory_gib",
        message=f"the job needs {needs.memory_bytes / _GIB:.1f} GiB of memory and {needs.gpus} GPUs; "
        f"no host has that (the largest has {largest / _GIB:.1f} GiB).",
        remedy="Lower batch_size or max_length, ask for less, or add a worker.",
    )
