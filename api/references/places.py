"""Why a deployment has no host, for people."""

from __future__ import annotations

from scheduling.serving_admission import Needs, why_it_waits_for_room
from storage.database import UnitOfWork
from storage.tables import DeploymentRow

#: The reason of a deployment that no host has room for at the moment.
WAITS_FOR_ROOM = "waits_for_room"


def why_it_waits(work: UnitOfWork, row: DeploymentRow) -> str | None:
    """None when it has a host, or one that lives has room and will take it in a moment."""
    if row.host is not None or row.state != "pending":
        return None
    rooms = {}
    for host in work.hosts.alive():
        room = work.hosts.room(host.name)
        if row.engine in host.engines and room is not None and not host.draining:
            rooms[host.name] = Needs(room.memory_bytes, room.gpus)
    return why_it_waits_for_room(Needs(row.memory_bytes, row.gpus), rooms)
