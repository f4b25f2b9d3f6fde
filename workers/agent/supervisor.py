"""The worker's loop: announces the host, starts an attempt for each job assigned to it, and keeps the zygote alive.

PostgreSQL says what to do; a hint only makes the loop look at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from uuid import UUID

from jobspecs.hosts import HostReason
from jobspecs.lifecycle import JobState, Reason
from storage.database import DatabaseUnavailable
from storage.tables import JobRow
from workers.attempt.attempt import Attempt
from workers.attempt.orders import Order
from workers.attempt.services import AssignedJob, Workbench
from workers.daemon.heartbeat import sign_of_life
from workers.daemon.host import HostConfig
from workers.daemon.instance import HostNameTaken, hold_name
from workers.daemon.machine import MachineWatch
from workers.daemon.platform_clock import PlatformClock
from workers.process.zygote_client import ChildProcess, ZygoteClient, ZygoteUnavailable

log = logging.getLogger(__name__)

#: Seconds between two announcements of the host; a shorter heartbeat counts.
ANNOUNCE_S = 5.0
#: Seconds by which the host's clock may differ from the database's. The object store refuses signatures from 900 s on.
CLOCK_OFF_MAX_S = 300.0
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
    """One host's worker. `run` returns after `stop`, when every attempt has ended; it raises HostNameTaken."""

    def __init__(
        self,
        config: HostConfig,
        bench: Workbench,
        zygote: ZygoteKeeper,
        *,
        instance: UUID,
        clock: PlatformClock,
        machine: MachineWatch,
        poll_s: float,
    ) -> None:
        self._config = config
        self._bench = bench
        self._zygote = zygote
        self._database = bench.database
        self._instance = instance
        self._clock = clock
        self._machine = machine
        self._poll_s = poll_s
        self._attempts: dict[tuple[UUID, int], Attempt] = {}
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._announced_at = float("-inf")
        self._announced: HostReason | Literal["nothing"] | None = "nothing"
        self._unkillable = False
        self._draining = False

    def wake(self) -> None:
        """Look at the database now."""
        self._woken.set()

    def stop(self) -> None:
        """Ends attempts with a checkpoint and then the loop. Call it from another thread than `run`."""
        self._stopping.set()
        self._woken.set()

    def run(self) -> None:
        alive = sign_of_life()
        try:
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
        finally:
            self._stopping.set()
            self._wind_down()

    def _why_not(self) -> HostReason | None:
        """Why the host accepts no jobs; None when it does."""
        if self._stopping.is_set():
            return HostReason.stopping
        if self._unkillable:
            return HostReason.unkillable
        if self._draining:
            return HostReason.draining
        if abs(self._clock.wall_ahead_s) > CLOCK_OFF_MAX_S:
            return HostReason.clock_off
        if self._bench.scratch.free_bytes() < self._config.scratch_free_min_bytes:
            return HostReason.disk_full
        return None if self._zygote.ready else HostReason.starting

    def _explained(self, reason: HostReason | None) -> str | None:
        if reason is HostReason.clock_off:
            return f"Its clock is {self._clock.wall_ahead_s:+.0f} s off the database's."
        if reason is HostReason.disk_full:
            return f"{self._bench.scratch.free_bytes() >> 20} MiB are free in {self._bench.scratch.root}."
        return None

    def _announce(self) -> None:
        """Raises HostNameTaken when another worker works under this host's name."""
        now = time.monotonic()
        due = now - self._announced_at >= min(ANNOUNCE_S, self._bench.times.heartbeat_s)
        if not due and self._why_not() == self._announced:
            return
        config = self._config
        with self._database.unit_of_work() as work:
            self._clock.measure(work.hosts.clock)
            hold_name(work, config.name, "jobs", self._instance, silent_s=self._bench.times.lease_s)
            self._draining = work.hosts.is_draining(config.name)
            reason = self._why_not()
            work.hosts.announce(
                config.name,
                slots=config.slots,
                memory_bytes=config.memory_bytes,
                gpus=config.gpus,
                accepting=reason is None,
                reason=reason,
                message=self._explained(reason),
                clock_offset_s=round(self._clock.wall_ahead_s, 3),
                scratch_free_bytes=self._bench.scratch.free_bytes(),
                machine=self._machine.now(),
            )
        if reason != self._announced:
            log.info("host %s takes %s", config.name, "jobs" if reason is None else f"no jobs: {reason}")
        self._announced, self._announced_at = reason, now

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
                    self._unkillable = True

    def _begin(self, job: JobRow) -> None:
        gpu_ids = self._take_gpus(job) if job.gpus else ()
        if len(gpu_ids) < job.gpus:
            log.warning("job %s waits for %d GPUs; %d are free", job.id, job.gpus, len(gpu_ids))
            return
        assigned = AssignedJob(
            id=job.id,
            fence=job.fence,
            name=job.name,
            spec=job.spec,
            inputs=job.inputs,
            gpus=gpu_ids,
            owner_id=job.owner_id,
        )
        attempt = Attempt(assigned, self._bench)
        self._attempts[job.id, job.fence] = attempt
        attempt.start()

    def _take_gpus(self, job: JobRow) -> tuple[str, ...]:
        """GPUs that neither an attempt here works on nor a deployment: as many as the job asks for, if they are free.

        They are written down under the host's lock, so that no deployment is given them meanwhile.
        """
        taken = {gpu for attempt in self._attempts.values() for gpu in attempt.job.gpus}
        with self._database.unit_of_work() as work:
            work.hosts.lock(self._config.name)
            # A worker that died before it began may have written down GPUs of this very attempt.
            room = work.hosts.room(self._config.name, beside=job.id)
            taken |= room.gpu_ids_taken if room is not None else set()
            free = tuple(gpu for gpu in self._config.gpu_ids if gpu not in taken)[: job.gpus]
            if len(free) == job.gpus:
                work.jobs.hold_gpus(job.id, job.fence, free)
        return free

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
        self._say_at_the_end(self._announce)
        # A grace for the child, one for the upload of its checkpoint, and some for the database.
        deadline = time.monotonic() + 2 * self._bench.times.kill_grace_s + 5
        for attempt in self._attempts.values():
            attempt.join(max(0.0, deadline - time.monotonic()))
        self._say_at_the_end(self._give_name_back)

    def _give_name_back(self) -> None:
        with self._database.unit_of_work() as work:
            work.hosts.release(self._config.name, "jobs", self._instance)

    def _say_at_the_end(self, say: Callable[[], None]) -> None:
        try:
            say()
        except (DatabaseUnavailable, HostNameTaken) as error:
            log.warning("the host could not say that it stops: %s", error)
