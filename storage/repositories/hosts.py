"""Hosts announce themselves; the scheduler reads who is alive."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobspecs.hosts import HostReason, Machine
from storage.repositories.serving.engine_holds import taken as served_by_deployments
from storage.tables import HostInstanceRow, HostRow, JobRow

#: Seconds without an announcement after which a host gets no new jobs.
HOST_SILENT_S = 30.0
#: Seconds without an announcement after which a host no longer counts as part of the platform.
HOST_FORGOTTEN_S = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Room:
    """What a host has beside its jobs and deployments; negative where more was given out than it has by now."""

    memory_bytes: int
    gpus: int
    #: GPUs that somebody holds by name. Jobs that have not begun yet will take some of the others.
    gpu_ids_taken: frozenset[str]


def _document(machine: Machine | None) -> dict[str, Any] | None:
    return None if machine is None else machine.model_dump(mode="json")


class HostRepository:
    """The hosts table."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def announce(
        self,
        name: str,
        *,
        slots: int,
        memory_bytes: int,
        gpus: int,
        accepting: bool,
        reason: HostReason | None = None,
        message: str | None = None,
        clock_offset_s: float | None = None,
        scratch_free_bytes: int | None = None,
        machine: Machine | None = None,
    ) -> None:
        """Records that the host lives and what it offers; why it accepts no jobs, and how far its clock is ahead."""
        values = {
            "slots": slots,
            "memory_bytes": memory_bytes,
            "gpus": gpus,
            "accepting": accepting,
            "reason": None if reason is None else reason.value,
            "message": message,
            "clock_offset_s": clock_offset_s,
            "scratch_free_bytes": scratch_free_bytes,
            "machine": _document(machine),
        }
        self._session.execute(
            insert(HostRow)
            .values(name=name, **values)
            .on_conflict_do_update(index_elements=["name"], set_={**values, "seen_at": func.clock_timestamp()})
        )

    def announce_serving(
        self,
        name: str,
        *,
        memory_bytes: int,
        gpus: int,
        scratch_free_bytes: int | None = None,
        engines: Mapping[str, Any] | None = None,
        machine: Machine | None = None,
        certificate: str | None = None,
    ) -> None:
        """Records that the host serves, and with which engines. Where its worker runs jobs too, that one says what the
        host offers.
        """
        values = {
            **{"slots": 0, "memory_bytes": memory_bytes, "gpus": gpus, "accepting": False},
            **{"scratch_free_bytes": scratch_free_bytes, "machine": _document(machine)},
        }
        self._session.execute(
            insert(HostRow)
            .values(name=name, **values)
            .on_conflict_do_update(
                index_elements=["name"],
                set_={**values, "seen_at": func.clock_timestamp()},
                where=HostRow.slots == 0,
            )
        )
        for column, told in ((HostRow.engines, dict(engines or {})), (HostRow.certificate, certificate)):
            changed = update(HostRow).where(HostRow.name == name, column.is_distinct_from(told))
            self._session.execute(changed.values({column: told}))

    def join(self, name: str) -> None:
        """Notes that a worker of that name came with a valid join token. It announces itself afterwards."""
        nothing_yet = {"slots": 0, "memory_bytes": 0, "gpus": 0, "accepting": False}
        self._session.execute(
            insert(HostRow)
            .values(name=name, **nothing_yet, joined_at=func.clock_timestamp())
            .on_conflict_do_update(index_elements=["name"], set_={"joined_at": func.clock_timestamp()})
        )

    def drain(self, name: str, draining: bool) -> HostRow | None:
        """Whether the host is to be left; None when there is no such host."""
        return self._session.scalars(
            update(HostRow).where(HostRow.name == name).values(draining=draining).returning(HostRow)
        ).one_or_none()

    def is_draining(self, name: str) -> bool:
        return bool(self._session.scalar(select(HostRow.draining).where(HostRow.name == name)))

    def certificates(self, names: Collection[str]) -> dict[str, str]:
        """By host, what to trust when its engines are asked; hosts whose engines are on this machine have none."""
        query = select(HostRow.name, HostRow.certificate).where(HostRow.name.in_(names))
        return {name: certificate for name, certificate in self._session.execute(query) if certificate is not None}

    def has_joined(self, name: str) -> bool:
        return self._session.scalar(select(HostRow.joined_at).where(HostRow.name == name)) is not None

    def room(self, name: str, *, beside: UUID | None = None) -> Room | None:
        """What is left of the host, and of what the deployment or job `beside` takes; None for an unknown one. Lock it
        first.

        Jobs and deployments count alike.
        """
        host = self._session.get(HostRow, name, populate_existing=True)
        if host is None:
            return None
        memory_bytes, gpus = host.memory_bytes, host.gpus
        taken: set[str] = set()
        jobs = select(JobRow.memory_bytes, JobRow.gpus, JobRow.gpu_ids).where(
            JobRow.host == name, JobRow.id.is_distinct_from(beside)
        )
        served = served_by_deployments()
        deployments = select(served.c.memory_bytes, served.c.gpus, served.c.gpu_ids).where(
            served.c.host == name, served.c.deployment_id.is_distinct_from(beside)
        )
        for holders in (jobs, deployments):
            for row in self._session.execute(holders):
                memory_bytes -= row.memory_bytes
                gpus -= row.gpus
                taken.update(row.gpu_ids)
        return Room(memory_bytes, gpus, frozenset(taken))

    def clock(self) -> datetime:
        """The database's clock, by which everything on the platform is dated."""
        now: datetime = self._session.execute(select(func.clock_timestamp())).scalar_one()
        return now

    def hold(self, host: str, role: str, instance: UUID, *, silent_s: float) -> float | None:
        """Takes or keeps the host's name in a role for the instance.

        When another instance holds it that was seen within `silent_s` seconds, nothing changes, and the seconds since
        then come back.
        """
        since_s = func.extract("epoch", func.clock_timestamp() - HostInstanceRow.seen_at)
        mine_or_silent = (HostInstanceRow.instance == instance) | (since_s >= silent_s)
        held = self._session.execute(
            insert(HostInstanceRow)
            .values(host=host, role=role, instance=instance)
            .on_conflict_do_update(
                index_elements=["host", "role"],
                set_={"instance": instance, "seen_at": func.clock_timestamp()},
                where=mine_or_silent,
            )
            .returning(HostInstanceRow.instance)
        ).one_or_none()
        if held is not None:
            return None
        mine = (HostInstanceRow.host == host) & (HostInstanceRow.role == role)
        return float(self._session.execute(select(since_s).where(mine)).scalar_one())

    def release(self, host: str, role: str, instance: UUID) -> None:
        """Gives the name back: a worker that has stopped in good order keeps nobody waiting."""
        self._session.execute(
            delete(HostInstanceRow).where(
                HostInstanceRow.host == host, HostInstanceRow.role == role, HostInstanceRow.instance == instance
            )
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
