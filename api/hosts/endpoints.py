"""/v1/hosts."""

from __future__ import annotations

from api.authentication import guarded_router, requires
from api.errors import not_found
from api.hosts.schemas import Host, HostEngine, HostList
from api.parts import Parts, ThePlatform
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


@router.put("/v1/hosts/{name}/draining")
@requires("hosts.drain")
def drain_host(platform: ThePlatform, name: str) -> Host:
    """It takes no new jobs, and what it serves moves to other hosts; what it has in hand ends there."""
    return _drain(platform, name, draining=True)


@router.delete("/v1/hosts/{name}/draining")
@requires("hosts.drain")
def undrain_host(platform: ThePlatform, name: str) -> Host:
    """It is used again."""
    return _drain(platform, name, draining=False)


def _drain(platform: Parts, name: str, *, draining: bool) -> Host:
    with platform.database.unit_of_work() as work:
        row = work.hosts.drain(name, draining) if "\0" not in name else None
        if row is None:
            raise not_found(f"host {name}")
        return _host(row, any(host.name == name for host in work.hosts.alive()))


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
        draining=row.draining,
        machine=None if row.machine is None else Machine.model_validate(row.machine),
        joined_at=row.joined_at,
        seen_at=row.seen_at,
    )
