"""What the host takes on, under its lock: which deployments, on which GPUs by name, and which of them sleep."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from storage.database import UnitOfWork
from storage.tables import DeploymentRow
from workers.inference.deployed_model import Service

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClaimTerms:
    """What the host serves with, and for how long a claim holds."""

    engines: frozenset[str]
    #: Memory of each GPU, where it is known.
    gpu_bytes: int | None
    lease_s: float


@dataclass(frozen=True)
class Places:
    """The host's, in one transaction. Whoever makes it has locked the host."""

    work: UnitOfWork
    host: str
    #: What deployments may get, as CUDA_VISIBLE_DEVICES names them.
    gpu_ids: tuple[str, ...]

    def claim(self, terms: ClaimTerms) -> None:
        """Takes what nobody serves and what fits."""
        while (room := self.work.hosts.room(self.host)) and (
            row := self.work.deployments.claim(
                self.host,
                memory_bytes_free=room.memory_bytes,
                gpus_free=room.gpus,
                lease_s=terms.lease_s,
                engines=terms.engines,
                gpu_bytes=terms.gpu_bytes,
            )
        ):
            log.info("deployment %s (%s) is claimed", row.name, row.id)

    def give_gpus(self) -> None:
        """Chooses by name what is counted already; the last ones first, as jobs take the first ones."""
        for row in self.work.deployments.held(self.host):
            room = self.work.hosts.room(self.host, beside=row.id) if len(row.gpu_ids) != row.gpus else None
            if room is None:
                continue
            free = [gpu for gpu in reversed(self.gpu_ids) if gpu not in room.gpu_ids_taken]
            # Those that it works on already stay, and before others those that engines of it still use.
            own = [*row.gpu_ids, *self.work.engine_holds.gpu_ids(self.host, row.id)]
            chosen = list(dict.fromkeys([*(gpu for gpu in own if gpu in free), *free]))
            if len(chosen) < row.gpus:
                log.warning("deployment %s waits for %d GPUs; %d are free", row.name, row.gpus, len(chosen))
                continue
            self.work.deployments.hold_gpus(row.id, chosen[: row.gpus])

    def settle_sleep(self, services: Mapping[UUID, Service], now_s: float, *, draining: bool) -> set[UUID]:
        """Puts to sleep what nobody asks, wakes what is wanted again, and returns what has given its place back.

        An engine that can keeps its place while it sleeps, and leaves its GPUs to others; but not on a host that is
        `draining`.
        """
        self.work.sleep.tire(self.host)
        given_back = set()
        for row in self.work.deployments.held(self.host):
            service = services.get(row.id)
            if not row.wanted:
                continue
            if row.sleeping and (draining or service is None or service.ending or not service.doze(now_s)):
                self.work.sleep.lay_down(row.id, self.host)
                given_back.add(row.id)
                log.info("deployment %s (%s) sleeps", row.name, row.id)
            elif not row.sleeping and service is not None and service.dozes:
                self._rouse(row, service, now_s)
        return given_back

    def _rouse(self, row: DeploymentRow, service: Service, now_s: float) -> None:
        """Where somebody else has its GPUs by now, it goes wherever there is room."""
        room = self.work.hosts.room(self.host, beside=row.id)
        taken = room is None or room.gpus < row.gpus or bool(room.gpu_ids_taken.intersection(row.gpu_ids))
        if service.asleep and taken:
            self.work.deployments.place_anew(row)
        else:
            service.rouse(now_s)
