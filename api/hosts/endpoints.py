"""/v1/hosts."""

from __future__ import annotations

from api.authentication import guarded_router, requires
from api.hosts.schemas import Host, HostEngine, HostList
from api.parts import ThePlatform
from jobspecs.hosts import Machine, remedy_of
from storage.tables import HostRow

router = guarded_router("hosts")


@router.get("/v1/hosts")
@requires("hosts.read")
def list_hosts(platform: ThePlatform) -> HostList:
    """Hosts that were seen within a week."""
    with platform.database.unit_of_work() as work:
        alive = {host.name for host in work.hosts.alive()}
        return HostList(data=[_host(row, row.name in alive) for row in work.hosts.known()])


def _host(row: HostRow, alive: bool) -> Host:
    return Host(
        name=row.name,
        alive=alive,
        accepting=row.accepting and alive,
        reason=row.reason,
        message=row.message,
        remedy=remedy_of(row.reason),
        slots=row.slots,
        memory_bytes=row.memory_bytes,
        gpus=row.gpus,
        clock_offset_s=row.clock_offset_s,
        engines={name: HostEngine.model_validate(engine) for name, engine in row.engines.items()},
        machine=None if row.machine is None else Machine.model_validate(row.machine),
        joined_at=row.joined_at,
        seen_at=row.seen_at,
    )
