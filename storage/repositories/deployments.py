"""Deployments: desired state from the API, observed state from inference workers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import and_, case, delete, func, null, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobspecs.rights import Reach
from storage.repositories.engine_holds import EngineHoldRepository
from storage.repositories.owners import named, within
from storage.tables import DeploymentRow


def _lease_end(lease_s: float) -> object:
    return func.clock_timestamp() + text("make_interval(secs => :lease_s)").bindparams(lease_s=lease_s)


#: A deployment that no engine serves yet.
_UNSERVED: dict[str, Any] = {
    **{"endpoint": None, "endpoint_key": None, "endpoint_model": None, "load": null()},
    **{"gpu_ids": [], "state": "pending"},
}


class DeploymentRepository:
    """The deployments table."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._holds = EngineHoldRepository(session)

    def want(
        self,
        owner_id: UUID,
        name: str,
        *,
        model_version_id: UUID | None,
        engine: str,
        replicas: int,
        memory_bytes: int,
        gpus: int = 0,
        task: str | None = None,
        engine_reason: str | None = None,
        external: Mapping[str, Any] | None = None,
    ) -> DeploymentRow:
        """Creates the deployment, or changes what is wanted of it (a new generation).

        Whether a change still fits the host that has claimed it is for the caller to see.
        """
        values = {
            **{"model_version_id": model_version_id, "engine": engine, "replicas": replicas, "gpus": gpus},
            **{"memory_bytes": memory_bytes, "wanted": True, "state": "pending", "reason": None, "message": None},
            **{"task": task, "engine_reason": engine_reason, "external": dict(external) if external else null()},
        }
        if (present := self.find(Reach.of(owner_id), name)) is not None:
            self._holds.keep(DeploymentRow.id == present.id)
        # In one statement: somebody else may be creating it at this moment.
        statement = (
            insert(DeploymentRow)
            .values(owner_id=owner_id, name=name, generation=1, **values)
            .on_conflict_do_update(
                index_elements=["owner_id", "name"], set_={**values, "generation": DeploymentRow.generation + 1}
            )
            .returning(DeploymentRow.id)
        )
        deployment_id = self._session.scalars(statement).one()
        return self._session.get_one(DeploymentRow, deployment_id, populate_existing=True)

    def find(self, reach: Reach, name: str, *, owner: str | None = None, lock: bool = False) -> DeploymentRow | None:
        """The deployment `owner/name` in the reach; without an owner, the home's."""
        query = select(DeploymentRow).where(named(reach, DeploymentRow.owner_id, owner), DeploymentRow.name == name)
        if lock:
            # populate_existing: the row may have been read before the lock was got, and be stale by now.
            query = query.with_for_update(of=DeploymentRow).execution_options(populate_existing=True)
        return self._session.scalars(query).one_or_none()

    def list(self, reach: Reach) -> Sequence[DeploymentRow]:
        query = select(DeploymentRow).where(within(reach, DeploymentRow.owner_id))
        return self._session.scalars(query.order_by(DeploymentRow.owner_id, DeploymentRow.name)).all()

    def unwant(self, reach: Reach, name: str, *, owner: str | None = None) -> bool:
        """Asks for its end. False when there is no such deployment. One that no worker holds is deleted at once."""
        row = self.find(reach, name, owner=owner, lock=True)
        if row is None:
            return False
        row.wanted = False
        row.generation += 1
        if row.host is None:
            self._session.delete(row)
        self._session.flush()
        return True

    def claim(
        self,
        host: str,
        *,
        memory_bytes_free: int,
        gpus_free: int = 0,
        lease_s: float,
        engines: Collection[str] | None = None,
    ) -> DeploymentRow | None:
        """Takes one deployment that no live worker holds and that fits; locked rows are somebody else's.

        `engines`: those that the host has; None: any.
        """
        free = or_(DeploymentRow.host.is_(None), DeploymentRow.lease_until < func.clock_timestamp())
        fits = and_(DeploymentRow.memory_bytes <= memory_bytes_free, DeploymentRow.gpus <= gpus_free)
        if engines is not None:
            fits = and_(fits, DeploymentRow.engine.in_(engines))
        row = self._session.scalars(
            select(DeploymentRow)
            .where(free, or_(fits, ~DeploymentRow.wanted))
            .order_by(DeploymentRow.created_at)
            .limit(1)
            .with_for_update(of=DeploymentRow, skip_locked=True)
        ).first()
        if row is not None:
            # The worker that was silent for a lease may only hang, and its engines serve on.
            self._holds.keep(DeploymentRow.id == row.id, DeploymentRow.host != host)
            self._session.execute(
                update(DeploymentRow)
                .where(DeploymentRow.id == row.id)
                .values(**_UNSERVED, host=host, lease_until=_lease_end(lease_s))
            )
            self._session.refresh(row)
        return row

    def renew(self, host: str, *, lease_s: float) -> Sequence[DeploymentRow]:
        """Renews the host's claims and returns them: what it should be serving.

        A claim that lapsed while the database was away is renewed too, unless another host has taken it by now.
        """
        self._session.execute(
            update(DeploymentRow).where(DeploymentRow.host == host).values(lease_until=_lease_end(lease_s))
        )
        return self.held(host)

    def held(self, host: str) -> Sequence[DeploymentRow]:
        """What the host has claimed, oldest first."""
        return self._session.scalars(
            select(DeploymentRow).where(DeploymentRow.host == host).order_by(DeploymentRow.created_at)
        ).all()

    def report(
        self,
        deployment_id: UUID,
        host: str,
        generation: int,
        *,
        state: str,
        reason: str | None = None,
        message: str | None = None,
        endpoint: str | None = None,
        endpoint_key: str | None = None,
        endpoint_model: str | None = None,
    ) -> bool:
        """Writes what the worker observed. False when it acted on an older generation or lost its claim."""
        written = self._session.scalars(
            update(DeploymentRow)
            .where(
                DeploymentRow.id == deployment_id, DeploymentRow.host == host, DeploymentRow.generation == generation
            )
            .values(
                state=state,
                reason=reason,
                message=message,
                endpoint=endpoint,
                endpoint_key=endpoint_key,
                endpoint_model=endpoint_model,
                updated_at=func.clock_timestamp(),
            )
            .returning(DeploymentRow.id)
        )
        return written.one_or_none() is not None

    def note_load(self, deployment_id: UUID, host: str, load: Mapping[str, Any] | None) -> None:
        """Writes what the host's engines have in hand."""
        mine = (DeploymentRow.id == deployment_id) & (DeploymentRow.host == host)
        self._session.execute(update(DeploymentRow).where(mine).values(load=null() if load is None else dict(load)))

    def release(self, host: str) -> None:
        """The worker goes: others may claim what it served."""
        self._holds.keep(DeploymentRow.host == host)
        self._session.execute(
            update(DeploymentRow).where(DeploymentRow.host == host).values(**_UNSERVED, host=None, lease_until=None)
        )

    def place_anew(self, row: DeploymentRow) -> None:
        """Takes the deployment from its host: it goes where it fits."""
        self._holds.keep(DeploymentRow.id == row.id)
        self._session.execute(
            update(DeploymentRow).where(DeploymentRow.id == row.id).values(**_UNSERVED, host=None, lease_until=None)
        )
        self._session.refresh(row)

    def hold_gpus(self, deployment_id: UUID, gpu_ids: Sequence[str]) -> None:
        """Notes by name which GPUs it works on. The caller holds the host's lock."""
        self._session.execute(
            update(DeploymentRow).where(DeploymentRow.id == deployment_id).values(gpu_ids=list(gpu_ids))
        )

    def remove(self, deployment_id: UUID, host: str, generation: int) -> bool:
        """Deletes the row once the engine is stopped. False when it is wanted again by now."""
        removed = self._session.scalars(
            delete(DeploymentRow)
            .where(
                DeploymentRow.id == deployment_id,
                DeploymentRow.host == host,
                DeploymentRow.generation == generation,
                ~DeploymentRow.wanted,
            )
            .returning(DeploymentRow.id)
        )
        return removed.one_or_none() is not None

    def count_by_state(self) -> dict[str, int]:
        """How many are wanted, by state; `lost`: the worker that served it has not renewed its claim."""
        lost = (DeploymentRow.state == "ready") & (DeploymentRow.lease_until < func.clock_timestamp())
        state = case((lost, "lost"), else_=DeploymentRow.state)
        rows = self._session.execute(select(state, func.count()).where(DeploymentRow.wanted).group_by(state))
        return {name: count for name, count in rows}
