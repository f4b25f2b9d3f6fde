"""Shares of deployments that move from a host with several of them to one with none, without a gap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Float, and_, case, func, null, select, text, update
from sqlalchemy.orm import Session

from jobspecs.rights import Reach
from scheduling.serving_admission import Needs
from scheduling.share_moves import PlacedShare
from storage.repositories.owners import within
from storage.repositories.serving.engine_holds import EngineHoldRepository
from storage.tables import DeploymentRow, HostRow

_ROW = DeploymentRow


class ShareMoveRepository:
    """The deployments table, as far as its shares go from host to host."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._holds = EngineHoldRepository(session)

    def crowded(self) -> Sequence[tuple[UUID, str]]:
        """Owner and name of the deployments with more wanted shares than hosts that have them."""
        mine = _ROW.owner_id, _ROW.name
        fewer_hosts = func.count(_ROW.host.distinct()) < func.count()
        query = select(*mine).where(_ROW.wanted).group_by(*mine).having(fewer_hosts).order_by(*mine)
        return [(owner_id, name) for owner_id, name in self._session.execute(query)]

    def placed(self, owner_id: UUID, name: str) -> list[PlacedShare]:
        """The wanted shares, by number, as they are now."""
        answers = and_(
            *(_ROW.state == "ready", _ROW.endpoint.is_not(None), _ROW.moving_from.is_(None)),
            _ROW.lease_until > func.clock_timestamp(),
        )
        since_s = func.extract("epoch", func.clock_timestamp() - _ROW.updated_at).cast(Float)
        query = select(
            *(_ROW.id, _ROW.generation, _ROW.share, _ROW.host, _ROW.memory_bytes, _ROW.gpus, _ROW.gpu_bytes),
            *(_ROW.engine, case((answers, since_s)).label("answers_s")),
        ).where(within(Reach.of(owner_id), _ROW.owner_id), _ROW.name == name, _ROW.wanted)
        return [
            PlacedShare(
                row.id,
                row.generation,
                row.share,
                row.host,
                Needs(row.memory_bytes, row.gpus, row.gpu_bytes),
                row.engine,
                row.answers_s,
            )
            for row in self._session.execute(query.order_by(_ROW.share))
        ]

    def lock_hosts_of(self, owner_id: UUID, name: str) -> bool:
        """Locks all hosts of the deployment; False, without waiting, when somebody else has locked one of them.

        Who waits for a second host while it has one may wait for ever.
        """
        hosts = set(
            self._session.scalars(select(_ROW.host).where(within(Reach.of(owner_id), _ROW.owner_id), _ROW.name == name))
        )
        query = select(HostRow.name).where(HostRow.name.in_(hosts - {None}))
        return hosts == set(self._session.scalars(query.with_for_update(skip_locked=True)))

    def take(self, share: PlacedShare, host: str, *, lease_s: float) -> bool:
        """The host claims the share; what answers where it was goes on until the host reports its own.

        False when somebody is changing it. Lock both hosts first.
        """
        which = _ROW.id == share.id, _ROW.generation == share.generation, _ROW.host == share.host, _ROW.wanted
        if self._session.scalar(select(_ROW.id).where(*which).with_for_update(of=_ROW, skip_locked=True)) is None:
            return False
        self._holds.keep(_ROW.id == share.id)
        now = func.clock_timestamp()
        lease_end = now + text("make_interval(secs => :lease_s)").bindparams(lease_s=lease_s)
        self._session.execute(
            update(_ROW)
            .where(_ROW.id == share.id)
            .values(
                **{"host": host, "moving_from": share.host, "lease_until": lease_end, "claimed_at": now},
                **{"gpu_ids": [], "load": null(), "state": "pending", "updated_at": now},
            )
        )
        return True

    def give_back_failed(self, host: str) -> list[tuple[UUID, int]]:
        """What the host could not start goes back to the hosts that still answer for it, unless they are drained.

        Returns ids and generations. Where such a host is gone by now, others claim it when the lease has run out.
        """
        drained = select(HostRow.name).where(HostRow.name == _ROW.moving_from, HostRow.draining)
        failed = _ROW.host == host, _ROW.state == "failed", _ROW.moving_from.is_not(None), ~drained.exists()
        self._holds.keep(*failed)
        back: dict[str, Any] = {"host": _ROW.moving_from, "moving_from": None, "gpu_ids": [], "claimed_at": None}
        anew = {"state": "pending", "reason": None, "message": None, "updated_at": func.clock_timestamp()}
        given = update(_ROW).where(*failed).values(**back, **anew).returning(_ROW.id, _ROW.generation)
        return [(share_id, generation) for share_id, generation in self._session.execute(given)]
