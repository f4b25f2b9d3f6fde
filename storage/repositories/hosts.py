"""Hosts announce themselves; the scheduler reads who is alive."""

from __future__ import annotations

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from storage.tables import HostRow

#: Seconds without an announcement after which a host gets no new jobs.
HOST_SILENT_S = 30.0
#: Seconds without an announcement after which a host no longer counts as part of the platform.
HOST_FORGOTTEN_S = 7 * 24 * 3600.0


class HostRepository:
    """The hosts table."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def announce(self, name: str, *, slots: int, memory_bytes: int, gpus: int, accepting: bool) -> None:
        """Records that the host lives and what it offers."""
        values = {"slots": slots, "memory_bytes": memory_bytes, "gpus": gpus, "accepting": accepting}
        self._session.execute(
            insert(HostRow)
            .values(name=name, **values)
            .on_conflict_do_update(index_elements=["name"], set_={**values, "seen_at": func.clock_timestamp()})
        )

    def lock(self, name: str) -> None:
        """Until the transaction ends nobody else gives out what the host has: neither to jobs nor to deployments."""
        self._session.execute(select(HostRow.name).where(HostRow.name == name).with_for_update())

    def known(self) -> list[HostRow]:
        """Hosts that were seen within a week, whether or not they live at the moment."""
        return self.alive(silent_s=HOST_FORGOTTEN_S)

    def alive(self, silent_s: float = HOST_SILENT_S) -> list[HostRow]:
        """Hosts that were seen lately, whether or not they accept jobs."""
        recent = HostRow.seen_at > func.clock_timestamp() - text("make_interval(secs => :s)").bindparams(s=silent_s)
        return list(self._session.scalars(select(HostRow).where(recent).order_by(HostRow.name)))
