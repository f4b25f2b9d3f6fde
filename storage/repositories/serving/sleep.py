"""Deployments that sleep: when they are due, how they are put to sleep and woken, and how long their starts take.

What is wanted is in `sleeping`; `state` says what is. One whose engine was stopped has no host and takes nothing; one
whose engine keeps its place (`workers.engines.interface`) stays with its host.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Float, case, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from jobspecs.rights import Reach
from storage.repositories.owners import within
from storage.repositories.serving.candidates import names_of_both
from storage.repositories.serving.engine_holds import EngineHoldRepository
from storage.tables import DeploymentRow

#: Seconds between two stamps of one API process. Nothing sleeps before as much beside what was asked for is over.
STAMP_S = 5.0
#: Of the last ones, how long a start takes is reckoned from so many.
STARTS_KEPT = 5

_ROW = DeploymentRow


@dataclass(frozen=True)
class Start:
    """How far a deployment is that is being woken."""

    #: How long a start of it takes by the last ones; None before the first.
    expected_s: float | None
    #: Since it was woken, or since a host has claimed it.
    elapsed_s: float
    #: No host has room for it yet.
    waits_for_room: bool


def noted_at(state: str) -> dict[str, Any]:
    """What a worker's report changes beside what it says."""
    if state == "failed":
        return {"woken_at": None, "claimed_at": None}
    if state != "ready":
        return {}
    began = func.coalesce(_ROW.claimed_at, _ROW.woken_at)
    took_s = func.extract("epoch", func.clock_timestamp() - began).cast(Float)
    starts = func.array_append(_ROW.start_seconds, took_s, type_=ARRAY(Float))
    count = func.cardinality(_ROW.start_seconds) + 1
    return {
        "start_seconds": case((began.is_not(None), starts[count - STARTS_KEPT + 1 : count]), else_=_ROW.start_seconds),
        # Nobody may have had the time to ask it.
        "last_used_at": case((_ROW.state != "ready", func.clock_timestamp()), else_=_ROW.last_used_at),
        **{"woken_at": None, "claimed_at": None},
    }


def _together(owner_id: UUID, name: str) -> tuple[ColumnElement[bool], ...]:
    """What sleeps and wakes with the deployment, or candidate, of this name: both get its requests."""
    return within(Reach.of(owner_id), _ROW.owner_id), _ROW.name.in_(names_of_both(name)), _ROW.wanted.is_(True)


class SleepRepository:
    """The deployments table, as far as sleep goes."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._holds = EngineHoldRepository(session)

    def note_use(self, deployment_ids: Collection[UUID]) -> None:
        """They are being asked."""
        used = update(_ROW).where(_ROW.id.in_(deployment_ids))
        self._session.execute(used.values(last_used_at=func.clock_timestamp()))

    def tire(self, host: str) -> Sequence[UUID]:
        """Puts to sleep what the host serves and nobody has asked for as long as was agreed, with all its shares."""
        patience = func.make_interval(0, 0, 0, 0, 0, 0, _ROW.idle_after_s + 2 * STAMP_S)
        due = select(_ROW.owner_id, _ROW.name).where(
            *(_ROW.host == host, _ROW.wanted, ~_ROW.sleeping, _ROW.state == "ready"),
            _ROW.last_used_at < func.clock_timestamp() - patience,
        )
        found = self._session.execute(due).all()
        return [key for owner_id, name in found for key in self.put_to_sleep(owner_id, name)]

    def put_to_sleep(self, owner_id: UUID, name: str) -> Sequence[UUID]:
        """All shares of the deployment and of its candidate; those that did not sleep yet come back. Its hosts do the
        rest.
        """
        slept = update(_ROW).where(*_together(owner_id, name), ~_ROW.sleeping)
        nowhere = _ROW.host.is_(None)
        # What still answers for it on a host that is drained need not any more.
        answering = (_ROW.moving_from, _ROW.endpoint, _ROW.endpoint_key, _ROW.endpoint_model)
        values = {
            "sleeping": True,
            "state": case((nowhere, "asleep"), else_=_ROW.state),
            **{column.key: case((nowhere, None), else_=column) for column in answering},
            **{"reason": None, "message": None, "woken_at": None, "updated_at": func.clock_timestamp()},
        }
        return self._session.scalars(slept.values(**values).returning(_ROW.id)).all()

    def lay_down(self, deployment_id: UUID, host: str) -> None:
        """The host stops its engine and gives its place back; the place is counted until the engine has ended."""
        mine = (_ROW.id == deployment_id, _ROW.host == host, _ROW.sleeping.is_(True))
        self._holds.keep(*mine)
        nothing: dict[str, Any] = {
            **{"endpoint": None, "endpoint_key": None, "endpoint_model": None, "load": None, "moving_from": None},
            **{"host": None, "lease_until": None, "claimed_at": None, "gpu_ids": [], "state": "asleep"},
        }
        self._session.execute(update(_ROW).where(*mine).values(**nothing, updated_at=func.clock_timestamp()))

    def wake(self, owner_id: UUID, name: str) -> bool:
        """All shares of the deployment and of its candidate; False when none sleeps, which changes nothing."""
        sleeping = update(_ROW).where(*_together(owner_id, name), _ROW.sleeping)
        now = func.clock_timestamp()
        values = {
            "sleeping": False,
            "state": case((_ROW.host.is_(None), "pending"), else_=_ROW.state),
            # One that has not even begun to sleep is not being started.
            "woken_at": case((_ROW.endpoint.is_(None), now)),
            **{"last_used_at": now, "updated_at": now},
        }
        return bool(self._session.scalars(sleeping.values(**values).returning(_ROW.id)).all())

    def set_patience(self, owner_id: UUID, name: str, idle_after_s: int | None) -> None:
        """Changes after how long without a request the deployment sleeps; nothing is started anew for it."""
        which = *_together(owner_id, name), _ROW.idle_after_s.is_distinct_from(idle_after_s)
        values = {"idle_after_s": idle_after_s, "last_used_at": func.clock_timestamp()}
        self._session.execute(update(_ROW).where(*which).values(**values))

    def start_of(self, row: DeploymentRow) -> Start:
        """How far the share is on its way to readiness."""
        since: ColumnElement[Any] = func.coalesce(row.claimed_at, row.woken_at, func.clock_timestamp())
        elapsed = select(func.extract("epoch", func.clock_timestamp() - since))
        expected_s = median(row.start_seconds) if row.start_seconds else None
        return Start(expected_s, float(self._session.execute(elapsed).scalar_one()), row.host is None)
