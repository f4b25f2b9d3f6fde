"""What deployments take of hosts: the larger of what is wanted and of what their engines still use."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Subquery, and_, case, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from storage.tables import DeploymentRow, EngineHoldRow

#: Seconds for which it counts unless the host's worker, which looks twice a second, renews it or lets it go.
HOLD_S = 60.0

_HOLD = EngineHoldRow


@dataclass(frozen=True)
class Taken:
    """Main memory in bytes, and whole GPUs."""

    memory_bytes: int = 0
    gpus: int = 0


def _lease_end() -> ColumnElement[Any]:
    return func.clock_timestamp() + text("make_interval(secs => :hold_s)").bindparams(hold_s=HOLD_S)


def taken() -> Subquery:
    """By host and deployment: `memory_bytes`, `gpus`, and `gpu_ids`, some of them perhaps twice."""
    alive = select(_HOLD).where(_HOLD.lease_until > func.clock_timestamp()).subquery()
    placed = select(DeploymentRow).where(DeploymentRow.host.is_not(None)).subquery()
    same = and_(placed.c.host == alive.c.host, placed.c.id == alive.c.deployment_id)
    nobody = text("ARRAY[]::text[]")
    # An engine that keeps its place while it sleeps has its weights in main memory.
    asleep = and_(placed.c.sleeping, placed.c.state == "asleep")
    return (
        select(
            func.coalesce(placed.c.host, alive.c.host).label("host"),
            func.coalesce(placed.c.id, alive.c.deployment_id).label("deployment_id"),
            func.greatest(placed.c.memory_bytes, alive.c.memory_bytes).label("memory_bytes"),
            func.greatest(case((asleep, 0), else_=placed.c.gpus), alive.c.gpus).label("gpus"),
            func.array_cat(
                case((asleep, nobody), else_=func.coalesce(placed.c.gpu_ids, nobody)),
                func.coalesce(alive.c.gpu_ids, nobody),
                type_=_HOLD.gpu_ids.type,
            ).label("gpu_ids"),
        )
        .select_from(placed)
        .join(alive, same, full=True)
        .subquery()
    )


class EngineHoldRepository:
    """The engine_holds table."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def keep(self, *which: ColumnElement[bool]) -> None:
        """Goes on counting what the deployments take now where they are placed; call it before that changes."""
        now = select(
            DeploymentRow.host,
            DeploymentRow.id,
            DeploymentRow.memory_bytes,
            DeploymentRow.gpus,
            DeploymentRow.gpu_ids,
            _lease_end(),
        ).where(DeploymentRow.host.is_not(None), *which)
        columns = ["host", "deployment_id", "memory_bytes", "gpus", "gpu_ids", "lease_until"]
        adding = insert(_HOLD).from_select(columns, now)
        both = text("ARRAY(SELECT DISTINCT unnest(engine_holds.gpu_ids || excluded.gpu_ids))")
        self._session.execute(
            adding.on_conflict_do_update(
                index_elements=["host", "deployment_id"],
                set_={
                    "memory_bytes": func.greatest(_HOLD.memory_bytes, adding.excluded.memory_bytes),
                    "gpus": func.greatest(_HOLD.gpus, adding.excluded.gpus),
                    "gpu_ids": both,
                    "lease_until": adding.excluded.lease_until,
                },
            )
        )

    def settle(self, host: str, still_used: Collection[UUID]) -> None:
        """Renews what engines of these deployments still use on the host, and lets go of everything else there."""
        self._session.execute(delete(_HOLD).where(_HOLD.host == host, _HOLD.deployment_id.not_in(still_used)))
        self._session.execute(update(_HOLD).where(_HOLD.host == host).values(lease_until=_lease_end()))

    def gpu_ids(self, host: str, deployment_id: UUID) -> list[str]:
        """Those that its engines may still use there."""
        held = self._session.get(_HOLD, (host, deployment_id), populate_existing=True)
        return [] if held is None else held.gpu_ids

    def taken_by_host(self) -> dict[str, Taken]:
        """What deployments take of each host; the scheduler counts it as no part of what it has."""
        ledger = taken()
        rows = self._session.execute(
            select(ledger.c.host, func.sum(ledger.c.memory_bytes), func.sum(ledger.c.gpus)).group_by(ledger.c.host)
        )
        return {host: Taken(int(memory_bytes), int(gpus)) for host, memory_bytes, gpus in rows}
