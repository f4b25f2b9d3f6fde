"""The worker's loop: announces the host, starts an attempt for each job assigned to it, and keeps the zygote alive.

PostgreSQL says what to do; a hint only makes the loop look at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from jobspecs.lifecycle import JobState, Reason
from storage.database import Database, DatabaseUnavailable
from storage.tables import JobRow
from workers.attempt.attempt import Attempt
from workers.attempt.orders import Order
from workers.attempt.services import AssignedJob, Workbench
from workers.daemon.heartbeat import sign_of_life
from workers.daemon.host import HostConfig
from workers.process.zygote_client import ChildProcess, ZygoteClient, ZygoteUnavailable

log = logging.getLogger(__name__)

#: Seconds between two announcements of the host.
ANNOUNCE_S = 5.0
#: Seconds before a zygote that died at once is started again.
_ZYGOTE_PAUSE_S = 5.0


class ZygoteKeeper:
    """Has a zygote running. Call `tend` in the worker's main thread: a zygote dies with the thread that made it."""

    def __init__(self, runners: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._runners = runners
        self._clock = clock
        self._zygote: ZygoteClient | None = None
        self._started_at = float("-inf")

    @property
    def ready(self) -> bool:
        zygote = self._zygote
        return zygote is not None and zygote.alive and zygote.ready.is_set()

    @property
    def pid(self) -> int | None:
        return self._zygote.pid if self._zygote is not None else None

    def tend(self) -> None:
        """Starts a zygote when there is none, but not in a tight loop."""
        if self._zygote is not None and self._zygote.alive:
            return
        if self._clock() - self._started_at < _ZYGOTE_PAUSE_S:
            return
        if self._zygote is not None:
            log.error("the zygote has died, and its children with it; starting another")
            self._zygote.close()
        self._started_at = self._clock()
        self._zygote = ZygoteClient(self._runners)

    def spawn(self, task: Path) -> ChildProcess:
        """Forks a child. Raises ZygoteUnavailable."""
        zygote = self._zygote
        if zygote is None:
            raise ZygoteUnavailable("the zygote is not started")
        return zygote.spawn(task)

    def close(self) -> None:
        if self._zygote is not None:
            self._zygote.close()


class Supervisor:
    """One host's worker. `run` returns after `stop`, when every attempt has ended."""

    def __init__(
        self, config: HostConfig, bench: Workbench, zygote: ZygoteKeeper, *, database: Database, poll_s: float
    ) -> None:
        self._config = config
        self._bench = bench
        self._zygote = zygote
        self._database = database
        self._poll_s = poll_s
        self._attempts: dict[tuple[UUID, int], Attempt] = {}
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._announced_at = float("-inf")
        self._announced: bool | None = None
        self._drained = False

    def wake(self) -> None:
        """Look at the database now."""
        self._woken.set()

    def stop(self) -> None:
        """Ends attempts with a checkpoint and then the loop. Call it from another thread than `run`."""
        self._stopping.set()
        self._woken.set()

    def run(self) -> None:
        alive = sign_of_life()
        while not self._stopping.is_set():
            alive()
            self._zygote.tend()
            try:
                self._announce()
                self._look()
            except DatabaseUnavailable as error:
                log.warning("the worker waits: %s", error)
            self._woken.wait(self._poll_s if self._zygote.ready else min(self._poll_s, 0.2))
            self._woken.clear()
        self._wind_down()

    def _accepting(self) -> bool:
        if self._stopping.is_set() or self._drained or not self._zygote.ready:
            return False
        return self._bench.scratch.free_bytes() >= self._config.scratch_free_min_bytes

    def _announce(self) -> None:
        accepting = self._accepting()
        now = time.monotonic()
        if accepting == self._announced and now - self._announced_at < ANNOUNCE_S:
            return
        if accepting != self._announced:
            log.info("host %s %s jobs", self._config.name, "takes" if accepting else "takes no")
        with self._database.unit_of_work() as work:
            work.hosts.announce(
                self._config.name,
                slots=self._config.slots,
                memory_bytes=self._config.memory_bytes,
                gpus=self._config.gpus,
                accepting=accepting,
            )
        self._announced, self._announced_at = accepting, now

    def _look(self) -> None:
        """Compares what the database says this host has with what it is doing."""
        self._bury()
        with self._database.unit_of_work() as work:
            jobs = work.queue.active(self._config.name)
        for job in jobs:
            attempt = self._attempts.get((job.id, job.fence))
            if attempt is not None:
                # A cancel is heard here, with its hint, before the next renewal brings it.
                attempt.record.lease.observe(JobState(job.state))
            elif job.state == JobState.assigned:
                self._begin(job)
            else:
                self._disown(job)

    def _bury(self) -> None:
        for key, attempt in list(self._attempts.items()):
            if attempt.finished:
                del self._attempts[key]
                if attempt.unkillable:
                    log.error("a process outlived SIGKILL: this host takes no more jobs until it is restarted")
                    self._drained = True

    def _begin(self, job: JobRow) -> None:
        taken = {gpu for attempt in self._attempts.values() for gpu in attempt.job.gpus}
        free = [gpu for gpu in range(self._config.gpus) if gpu not in taken]
        if len(free) < job.gpus:
            log.warning("job %s waits for %d GPUs; %d are free", job.id, job.gpus, len(free))
            return
        assigned = AssignedJob(
            id=job.id,
            fence=job.fence,
            owner_id=job.owner_id,
            name=job.name,
            spec=job.spec,
            inputs=job.inputs,
            gpus=tuple(free[: job.gpus]),
        )
        attempt = Attempt(assigned, self._bench)
        self._attempts[job.id, job.fence] = attempt
        attempt.start()

    def _disown(self, job: JobRow) -> None:
        """The host holds the job but no attempt works on it: an earlier worker of this name died. No need to wait."""
        with self._database.unit_of_work() as work:
            ended = work.jobs.end_attempt(
                job.id,
                reason=Reason.lease_expired,
                message="The worker was restarted.",
                actor=self._bench.actor,
                fence=job.fence,
            )
        if ended is not None:
            log.warning("job %s: attempt %d was orphaned; now %s", job.id, job.fence, ended.state)

    def _wind_down(self) -> None:
        log.info("stopping; %d attempts write a checkpoint", len(self._attempts))
        for attempt in self._attempts.values():
            attempt.orders.give(Order.stop)
        try:
            self._announce()
        except DatabaseUnavailable as error:
            log.warning("the host could not say that it stops: %s", error)
        # A grace for the child, one for the upload of its checkpoint, and some for the database.
        deadline = time.monotonic() + 2 * self._bench.times.kill_grace_s + 5
        for attempt in self._attempts.values():
            attempt.join(max(0.0, deadline - time.monotonic()))
