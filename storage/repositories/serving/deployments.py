"""Deployments: desired state from the API, observed state from inference workers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, case, delete, func, null, or_, select, text, update
from sqlalchemy.dialects.postgresql import array, insert
from sqlalchemy.orm import Session, aliased

from jobspecs.rights import Reach
from jobspecs.webhooks import EventType
from storage.repositories.deliveries import DeliveryRepository
from storage.repositories.owners import named, same_owner, within
from storage.repositories.serving.candidates import candidate_name
from storage.repositories.serving.engine_holds import EngineHoldRepository
from storage.repositories.serving.served_adapters import ServedAdapterRepository
from storage.repositories.serving.sleep import noted_at
from storage.tables import DeploymentRow, HostRow


def _lease_end(lease_s: float) -> object:
    return func.clock_timestamp() + text("make_interval(secs => :lease_s)").bindparams(lease_s=lease_s)


#: States of shares; the first that one of them has is the deployment's.
_BEST_FIRST = ("ready", "starting", "pending", "lost", "asleep", "failed")
#: States that webhooks are told of.
_TOLD = {"ready": EventType.deployment_ready, "failed": EventType.deployment_failed}
#: Seconds that the second share of a deployment waits for a host that has none before it goes to one that has.
SPREAD_S = 5.0


def _ago(seconds: float) -> ColumnElement[Any]:
    return func.clock_timestamp() - text("make_interval(secs => :ago_s)").bindparams(ago_s=seconds)


#: A deployment that no engine serves yet.
_UNSERVED: dict[str, Any] = {
    **{"endpoint": None, "endpoint_key": None, "endpoint_model": None, "load": null()},
    **{"moving_from": None, "gpu_ids": [], "state": case((DeploymentRow.sleeping, "asleep"), else_="pending")},
}


class DeploymentRepository:
    """The deployments table."""

    def __init__(self, session: Session, deliveries: DeliveryRepository) -> None:
        self._session = session
        self._deliveries = deliveries
        self._holds = EngineHoldRepository(session)
        self._adapters = ServedAdapterRepository(session)

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
        share: int = 0,
        task: str | None = None,
        engine_reason: str | None = None,
        external: Mapping[str, Any] | None = None,
        idle_after_s: int | None = None,
        gpu_bytes: int = 0,
        memory: Mapping[str, Any] | None = None,
        context_tokens: int | None = None,
        sequences: int | None = None,
        adapter_ids: Collection[UUID] = (),
    ) -> DeploymentRow:
        """Creates the share of the deployment, or changes what is wanted of it (a new generation).

        `adapter_ids`: versions that are served beside the model.

        Whether a change still fits the host that has claimed it is for the caller to see.
        """
        values: dict[str, Any] = {
            **{"model_version_id": model_version_id, "engine": engine, "replicas": replicas, "gpus": gpus},
            **{"memory_bytes": memory_bytes, "wanted": True, "state": "pending", "reason": None, "message": None},
            **{"idle_after_s": idle_after_s, "sleeping": False, "woken_at": None},
            **{"gpu_bytes": gpu_bytes, "memory": dict(memory) if memory else null()},
            **{"context_tokens": context_tokens, "sequences": sequences},
            "updated_at": func.clock_timestamp(),
            **{"task": task, "engine_reason": engine_reason, "external": dict(external) if external else null()},
        }
        if (present := self.find(Reach.of(owner_id), name, share=share)) is not None:
            self._holds.keep(DeploymentRow.id == present.id)
        # In one statement: somebody else may be creating it at this moment.
        statement = (
            insert(DeploymentRow)
            .values(owner_id=owner_id, name=name, share=share, generation=1, **values)
            .on_conflict_do_update(
                index_elements=["owner_id", "name", "share"],
                set_={**values, "generation": DeploymentRow.generation + 1},
            )
            .returning(DeploymentRow.id)
        )
        deployment_id = self._session.scalars(statement).one()
        self._adapters.serve(deployment_id, adapter_ids)
        return self._session.get_one(DeploymentRow, deployment_id, populate_existing=True)

    def find(
        self, reach: Reach, name: str, *, owner: str | None = None, share: int = 0, lock: bool = False
    ) -> DeploymentRow | None:
        """The deployment `owner/name` in the reach; without an owner, the home's. Its share 0 speaks for it."""
        which = named(reach, DeploymentRow.owner_id, owner), DeploymentRow.name == name, DeploymentRow.share == share
        query = select(DeploymentRow).where(*which)
        if lock:
            # populate_existing: the row may have been read before the lock was got, and be stale by now.
            query = query.with_for_update(of=DeploymentRow).execution_options(populate_existing=True)
        return self._session.scalars(query).one_or_none()

    def find_shares(self, reach: Reach, name: str, *, owner: str | None = None) -> Sequence[DeploymentRow]:
        """All shares of the deployment `owner/name`, by number."""
        which = named(reach, DeploymentRow.owner_id, owner), DeploymentRow.name == name
        return self._session.scalars(select(DeploymentRow).where(*which).order_by(DeploymentRow.share)).all()

    def list(self, reach: Reach) -> Sequence[DeploymentRow]:
        """The first share of each deployment; candidates are none."""
        first = DeploymentRow.share == 0, DeploymentRow.traffic_percent.is_(None)
        query = select(DeploymentRow).where(within(reach, DeploymentRow.owner_id), *first)
        return self._session.scalars(query.order_by(DeploymentRow.owner_id, DeploymentRow.name)).all()

    def shares(self, row: DeploymentRow) -> Sequence[DeploymentRow]:
        """All of the deployment's, this one included."""
        return self.find_shares(Reach.of(row.owner_id), row.name)

    def unwant(self, reach: Reach, name: str, *, owner: str | None = None, shares_from: int = 0) -> bool:
        """Asks for its end and its candidate's, or for that of its last shares. False when there is no such deployment.

        What no worker holds is deleted at once.
        """
        first = self.find(reach, name, owner=owner, lock=True)
        if first is None:
            return False
        ending = [row for row in self.shares(first) if row.share >= shares_from or not row.wanted]
        if shares_from == 0:
            ending += self.find_shares(Reach.of(first.owner_id), candidate_name(name))
        for row in ending:
            if row.wanted:
                row.wanted = False
                row.generation += 1
            if row.host is None and not row.wanted:
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
        gpu_bytes: int | None = None,
    ) -> DeploymentRow | None:
        """Takes one deployment that no live worker holds and that fits; locked rows are somebody else's.

        Of several shares hosts take one each, as long as there are enough of them. `engines`: those that the host has;
        None: any. `gpu_bytes`: memory of each of its GPUs, where that is known.
        """
        free = or_(DeploymentRow.host.is_(None), DeploymentRow.lease_until < func.clock_timestamp())
        other = aliased(DeploymentRow)
        same = same_owner(other.owner_id, DeploymentRow.owner_id), other.name == DeploymentRow.name
        has_share = select(other.id).where(*same, other.id != DeploymentRow.id, other.host == host, other.wanted)
        since = func.coalesce(DeploymentRow.lease_until, DeploymentRow.updated_at)
        spread = or_(~has_share.exists(), since < _ago(SPREAD_S))
        fits = and_(
            ~DeploymentRow.sleeping,
            spread,
            DeploymentRow.memory_bytes <= memory_bytes_free,
            DeploymentRow.gpus <= gpus_free,
        )
        if gpu_bytes is not None:
            fits = and_(fits, DeploymentRow.gpu_bytes <= gpu_bytes)
        if engines is not None:
            # One that no host has known for a week goes to whoever has room, to say so: else it would wait for ever.
            told_of = select(HostRow.name).where(
                HostRow.engines.has_key(DeploymentRow.engine),
                HostRow.seen_at > func.clock_timestamp() - text("interval '7 days'"),
            )
            fits = and_(fits, or_(DeploymentRow.engine.in_(engines), ~told_of.correlate(DeploymentRow).exists()))
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
            values: dict[str, Any] = dict(_UNSERVED)
            if row.moving_from == host:
                values = {"moving_from": None}
            elif row.moving_from is not None:
                # What answers there goes on until we do.
                values = {"gpu_ids": [], "state": "pending"}
            self._session.execute(
                update(DeploymentRow)
                .where(DeploymentRow.id == row.id)
                .values(**values, host=host, lease_until=_lease_end(lease_s), claimed_at=func.clock_timestamp())
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

    def moving(self, host: str) -> Sequence[UUID]:
        """What the host's engines answer for until those of another one do."""
        elsewhere = DeploymentRow.host.is_distinct_from(host)
        query = select(DeploymentRow.id).where(DeploymentRow.moving_from == host, elsewhere, DeploymentRow.wanted)
        return self._session.scalars(query).all()

    def offer(self, host: str) -> None:
        """The host is drained: another one may claim what it has. Its engines answer until others do."""
        mine = (DeploymentRow.host == host, DeploymentRow.wanted.is_(True))
        self._holds.keep(*mine)
        free = {"host": None, "lease_until": None, "updated_at": func.clock_timestamp()}
        answering = *mine, DeploymentRow.moving_from.is_(None), DeploymentRow.endpoint.is_not(None)
        self._session.execute(update(DeploymentRow).where(*answering).values(**free, moving_from=host))
        silent = *mine, DeploymentRow.moving_from.is_(None)
        self._session.execute(update(DeploymentRow).where(*silent).values(**_UNSERVED, **free))
        # It was itself about to take over from another one.
        self._session.execute(update(DeploymentRow).where(*mine).values(**free))

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
        """Writes what the worker observed. False when it acted on an older generation or lost its claim.

        While nothing of its own answers, the endpoint of the host that it takes over from stays.
        """
        moving = DeploymentRow.moving_from.is_not(None)
        kept = {
            "endpoint": case((moving, DeploymentRow.endpoint)),
            "endpoint_key": case((moving, DeploymentRow.endpoint_key)),
            "endpoint_model": case((moving, DeploymentRow.endpoint_model)),
        }
        shown = {
            "endpoint": endpoint,
            "endpoint_key": endpoint_key,
            "endpoint_model": endpoint_model,
            "moving_from": None,
        }
        mine = DeploymentRow.id == deployment_id, DeploymentRow.host == host, DeploymentRow.generation == generation
        before = self._session.scalar(select(DeploymentRow.state).where(*mine).with_for_update(of=DeploymentRow))
        if before is None:
            return False
        values: dict[str, Any] = {"state": state, "reason": reason, "message": message, **noted_at(state)}
        values |= {**(kept if endpoint is None else shown), "updated_at": func.clock_timestamp()}
        self._session.execute(update(DeploymentRow).where(*mine).values(**values))
        if state != before and state in _TOLD:
            self._tell(self._session.get_one(DeploymentRow, deployment_id, populate_existing=True))
        return True

    def _tell(self, row: DeploymentRow) -> None:
        """Tells of it, unless another share answers: then the deployment was ready before, and is so now."""
        if not any(other.state == "ready" for other in self.shares(row) if other.id != row.id):
            self._deliveries.tell_of_deployment(row, _TOLD[row.state])

    def note_load(self, deployment_id: UUID, host: str, load: Mapping[str, Any] | None) -> None:
        """Writes what the host's engines have in hand."""
        mine = (DeploymentRow.id == deployment_id) & (DeploymentRow.host == host)
        self._session.execute(update(DeploymentRow).where(mine).values(load=null() if load is None else dict(load)))

    def release(self, host: str) -> None:
        """The worker goes: others may claim what it served."""
        self._holds.keep(DeploymentRow.host == host)
        free = {"host": None, "lease_until": None, "updated_at": func.clock_timestamp()}
        self._session.execute(update(DeploymentRow).where(DeploymentRow.host == host).values(**_UNSERVED, **free))
        left = {"endpoint": None, "endpoint_key": None, "moving_from": None}
        self._session.execute(update(DeploymentRow).where(DeploymentRow.moving_from == host).values(**left))

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
        # Of several shares the best one speaks: it answers.
        rank = func.array_position(array(list(_BEST_FIRST)), state)
        shares = select(func.min(rank).label("rank")).where(
            DeploymentRow.wanted, DeploymentRow.traffic_percent.is_(None)
        )
        best = shares.group_by(DeploymentRow.owner_id, DeploymentRow.name).subquery()
        rows = self._session.execute(select(best.c.rank, func.count()).group_by(best.c.rank))
        return {_BEST_FIRST[rank - 1]: count for rank, count in rows}
