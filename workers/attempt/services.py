"""What an attempt is about, what it works with, and how it ends early."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from jobspecs.lifecycle import JobState, Reason
from storage.database import Database, DatabaseUnavailable, UnitOfWork
from storage.objects import ObjectStore, ObjectStoreError
from storage.progress import ProgressPublisher
from storage.secret_box import SecretBox
from storage.settings import LeaseTimes
from storage.tables import JobRow
from workers.attempt.checkpoint_sync import forget_checkpoints
from workers.attempt.lease import Lease
from workers.attempt.orders import Order, Orders
from workers.attempt.scratch import Scratch
from workers.files.host_cache import HostCache
from workers.process.zygote_client import ChildProcess

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds between two tries while PostgreSQL is away.
_RETRY_S = 0.5

_OVER_BY_ORDER = {
    Order.preempt: (Reason.preempted, "Its place was wanted back."),
    Order.stop: (Reason.worker_stopped, "The worker was stopped."),
    Order.cancel: (Reason.cancelled_by_user, "The job was cancelled."),
    Order.timeout: (Reason.timeout, "The job ran longer than resources.max_runtime."),
}


class Over(Exception):
    """The attempt ends without a result."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Fenced(Exception):
    """The attempt may not write any more."""


@dataclass(frozen=True)
class AssignedJob:
    """What an attempt needs of the job's row."""

    id: UUID
    fence: int
    name: str
    spec: dict[str, object]
    inputs: dict[str, object]
    #: Those of the host's GPUs that are the job's, as CUDA names them.
    gpus: tuple[str, ...]
    #: Whose it is.
    owner_id: UUID


@dataclass(frozen=True)
class Workbench:
    """What all attempts of a worker share."""

    host: str
    database: Database
    store: ObjectStore
    publisher: ProgressPublisher
    cache: HostCache
    scratch: Scratch
    times: LeaseTimes
    #: Forks a child for a task file. Raises ZygoteUnavailable.
    spawn: Callable[[Path], ChildProcess]
    #: The platform's time, by which events are dated.
    now: Callable[[], datetime]
    #: Opens what users have entrusted to the platform; None: it is not to be opened here.
    secret_box: SecretBox | None = None

    @property
    def actor(self) -> str:
        return f"host:{self.host}"

    def forget_checkpoints(self, job_id: UUID) -> None:
        """Deletes all checkpoints of a job that has succeeded. What can't be deleted now is swept later."""
        try:
            forget_checkpoints(self.database, self.store, job_id, keep=0)
        except (ObjectStoreError, DatabaseUnavailable) as error:
            log.warning("job %s: its checkpoints stay behind: %s", job_id, error)


class AttemptRecord:
    """An attempt's rows in the database. Every write names the fence; what PostgreSQL does not answer is repeated."""

    def __init__(self, job: AssignedJob, bench: Workbench, orders: Orders) -> None:
        self._job = job
        self._bench = bench
        self._orders = orders
        self.lease = Lease(self._renew, orders, bench.times)

    def move(self, sources: Collection[JobState], target: JobState) -> None:
        """Raises Over or Fenced when the job is no longer in one of `sources` under this fence."""
        job = self._job

        def step(work: UnitOfWork) -> bool:
            actor, fence = self._bench.actor, job.fence
            if work.jobs.transition(job.id, target, actor=actor, sources=sources, fence=fence) is not None:
                return True
            # The answer to an earlier try may have been lost on the way.
            now = work.jobs.get(job.id)
            return now is not None and now.fence == job.fence and now.state == target

        if not self.transact(step):
            self.refused()

    def end(self, reason: Reason, message: str) -> JobRow | None:
        """The attempt brought no result. None: it is not this attempt's to end any more."""
        job, actor = self._job, self._bench.actor
        # PostgreSQL's texts can't hold a NUL, and an error may quote one from the user's data.
        message = message.replace("\0", "\N{REPLACEMENT CHARACTER}")
        return self.transact(
            lambda work: work.jobs.end_attempt(job.id, reason=reason, message=message, actor=actor, fence=job.fence)
        )

    def check(self) -> None:
        """Raises Over or Fenced when an order stands."""
        order = self._orders.current
        if order is Order.fenced or self.lease.overdue:
            raise Fenced
        if order is not Order.none:
            raise over_by(order)

    def refused(self) -> None:
        """A write was refused: finds out what is wanted. Raises Over or Fenced."""
        self.lease.beat()
        self.check()
        raise Fenced

    def transact(self, action: Callable[[UnitOfWork], T]) -> T:
        """`persist` with a transaction."""

        def transaction() -> T:
            with self._bench.database.unit_of_work() as work:
                return action(work)

        return self.persist(transaction)

    def persist(self, action: Callable[[], T]) -> T:
        """Repeats `action` until PostgreSQL answers, as long as the lease can be alive. Raises Fenced after that."""
        while True:
            if self._orders.current is Order.fenced or self.lease.overdue:
                raise Fenced
            try:
                return action()
            except DatabaseUnavailable as error:
                log.warning("job %s waits: %s", self._job.id, error)
                self._orders.wait(_RETRY_S, above=Order.timeout)

    def _renew(self) -> JobState | None:
        with self._bench.database.unit_of_work() as work:
            return work.jobs.renew_lease(self._job.id, self._job.fence, lease_s=self._bench.times.lease_s)


def over_by(order: Order) -> Over:
    """How an attempt ends that was ordered to."""
    return Over(*_OVER_BY_ORDER[order])
