"""Figures of the whole platform, as the database knows them at one moment."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from storage.database import Database, UnitOfWork
from storage.repositories.hosts import HOST_SILENT_S
from storage.repositories.jobs.leader import Leader
from storage.repositories.tallies import Total
from storage.tables import AnswerCountRow, HostRow

#: Seconds for which figures hold: several who scrape at once, or one who scrapes too often, cost one look.
FRESH_S = 3.0

#: `accepting` jobs or `refusing` them; `serving`: it only serves deployments; `silent`: not heard of lately.
HostState = Literal["accepting", "refusing", "serving", "silent"]


@dataclass(frozen=True)
class HostFigures:
    """A host that was seen within a week, and what jobs and deployments take of it."""

    name: str
    state: HostState
    #: Why it refuses jobs, a `HostReason`; empty where it does not.
    reason: str
    silent_for_s: float
    slots: int
    slots_used: int
    gpus: int
    gpus_used: int
    scratch_free_bytes: int | None


@dataclass(frozen=True)
class Figures:
    """Jobs and deployments by state; `totals` only ever rise."""

    jobs: Mapping[str, int]
    queue_age_s: float
    outbox_unsent: int
    hosts: Sequence[HostFigures]
    leader: Leader | None
    deployments: Mapping[str, int]
    totals: Sequence[Total]
    #: By owner.
    answers: Sequence[tuple[str, AnswerCountRow]] = ()


@dataclass
class FiguresCache:
    """Remembers the last look for FRESH_S seconds; many who ask at once share one."""

    database: Database
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _known: Figures | None = None
    _known_at_s: float = 0.0

    def look(self) -> Figures:
        """Raises DatabaseUnavailable."""
        with self._lock:
            if self._known is None or self.clock() - self._known_at_s > FRESH_S:
                with self.database.unit_of_work() as work:
                    self._known = _read(work)
                self._known_at_s = self.clock()
            return self._known


def _read(work: UnitOfWork) -> Figures:
    return Figures(
        jobs=work.queue.count_by_state(),
        queue_age_s=work.queue.oldest_queued_age_s(),
        outbox_unsent=work.outbox.count_unsent(),
        hosts=_hosts(work),
        leader=work.leader.newest(),
        deployments=work.deployments.count_by_state(),
        totals=work.tallies.totals(),
        answers=work.answers.of_all(),
    )


def _hosts(work: UnitOfWork) -> list[HostFigures]:
    slots, gpus = Counter[str](), Counter[str]()
    for place in work.queue.places():
        slots[place.host] += place.slots
        gpus[place.host] += place.gpus
    for host, taken in work.engine_holds.taken_by_host().items():
        gpus[host] += taken.gpus
    now = work.hosts.clock()
    return [
        HostFigures(
            name=row.name,
            state=(state := _state(row, silent_for_s := max(0.0, (now - row.seen_at).total_seconds()))),
            reason=row.reason or "" if state == "refusing" else "",
            silent_for_s=silent_for_s,
            slots=row.slots,
            slots_used=slots[row.name],
            gpus=row.gpus,
            gpus_used=gpus[row.name],
            scratch_free_bytes=row.scratch_free_bytes,
        )
        for row in work.hosts.known()
    ]


def _state(row: HostRow, silent_for_s: float) -> HostState:
    if silent_for_s > HOST_SILENT_S:
        return "silent"
    if row.slots == 0:
        return "serving"
    return "accepting" if row.accepting else "refusing"
