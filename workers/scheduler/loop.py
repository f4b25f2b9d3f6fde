"""Looks at the heads of the queue on every tick and gives places to those that fit.

Several may run; one leads (`storage.leadership`), and is replaced when it dies or hangs. Two that both believed to lead
could still give a job away only once: assigning is a compare-and-set.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time

from scheduling.decisions import decide
from storage.database import Database, DatabaseUnavailable, Listener
from storage.leadership import Leadership
from workers.daemon.heartbeat import sign_of_life
from workers.scheduler.decision_log import DecisionLog
from workers.scheduler.pipelines.advancing import PIPELINES_MAX, advance_all
from workers.scheduler.relay import Relay
from workers.scheduler.schedules.running import SCHEDULES_MAX, run_due
from workers.scheduler.snapshot import fits_now, take_snapshot
from workers.scheduler.sweeps.advancing import SECONDS_MAX, SWEEPS_MAX
from workers.scheduler.sweeps.advancing import advance_all as advance_sweeps

log = logging.getLogger(__name__)

#: Seconds before the next attempt to reach PostgreSQL.
_RECONNECT_S = 1.0
#: Seconds between two heartbeats of the leader, at least: commits may come hundreds of times a second.
_BEAT_EVERY_S = 1.0
#: Starts of one tick at most: they take a second, and the leader must show that it lives.
_STARTS_MAX = 100
#: Notifications that one look answers at most.
_BURST_MAX = 1000


def tick(database: Database, *, lease_s: float, decisions: DecisionLog | None = None) -> int:
    """Ends what has expired, runs schedules, takes pipelines and sweeps on, decides, applies it; how many got a place.

    A snapshot shows the heads of the queue only: as long as some got a place, more may fit.
    """
    with database.unit_of_work() as work:
        for job in work.jobs.reap():
            log.warning("job %s: the lease of attempt %d expired; now %s", job.id, job.fence, job.state)
        due = work.pipelines.due(PIPELINES_MAX)
        sweeps = work.sweeps.due(SWEEPS_MAX)
        times = work.schedules.due(SCHEDULES_MAX)
    run_due(database, times)
    advance_all(database, due)
    advance_sweeps(database, sweeps, seconds_max=SECONDS_MAX)
    with database.unit_of_work() as work:
        snapshot = take_snapshot(work)
    assigned = 0
    actions = decide(snapshot)
    for action in actions[:_STARTS_MAX]:
        with database.unit_of_work() as work:
            # A deployment may have been claimed since the snapshot: what a host has is given out under one lock.
            if not fits_now(work, action.job_id, action.host):
                continue
            given = work.jobs.assign(action.job_id, action.host, lease_s=lease_s)
        if given is not None:
            log.info("job %s: attempt %d goes to host %s", given.id, given.fence, given.host)
            assigned += 1
    if decisions is not None:
        decisions.keep(snapshot, actions)
    return assigned


class Scheduler:
    """The loop around `tick`. Ends when `stop` is set, never because a part of the platform is away."""

    def __init__(self, database: Database, relay: Relay, *, poll_s: float, lease_s: float, silent_s: float) -> None:
        self._database = database
        self._relay = relay
        self._decisions = DecisionLog(database)
        self._poll_s = poll_s
        self._lease_s = lease_s
        # One that hangs must look silent, one that waits for commits must not.
        self._silent_s = max(silent_s, 3 * poll_s)
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._alive = sign_of_life()
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            self._alive()
            try:
                with (
                    self._database.leadership(self._name, silent_s=self._silent_s) as leadership,
                    self._database.listen() as listener,
                ):
                    self._follow(leadership)
                    self._lead(leadership, listener)
            except DatabaseUnavailable as error:
                log.warning("the scheduler waits: %s", error)
                self.stop.wait(_RECONNECT_S)

    def _follow(self, leadership: Leadership) -> None:
        while not self.stop.is_set() and not leadership.acquire():
            self._alive()
            if leadership.depose_silent():
                log.warning("the leading scheduler gave no sign of life for %g s: replacing it", self._silent_s)
            self.stop.wait(self._poll_s)

    def _lead(self, leadership: Leadership, listener: Listener) -> None:
        if not self.stop.is_set():
            log.info("this scheduler leads")
        beaten_at = float("-inf")
        ticks, ticks_s = 0, 0.0
        while not self.stop.is_set():
            self._alive()
            if time.monotonic() - beaten_at >= _BEAT_EVERY_S:
                leadership.beat(ticks=ticks, ticks_s=ticks_s)
                beaten_at, ticks, ticks_s = time.monotonic(), 0, 0.0
            began_at = time.monotonic()
            assigned = tick(self._database, lease_s=self._lease_s, decisions=self._decisions)
            ticks, ticks_s = ticks + 1, ticks_s + time.monotonic() - began_at
            self._relay.poke()
            if not assigned:
                self._wait(listener)

    def _wait(self, listener: Listener) -> None:
        """Until something was committed. A burst of notifications is worth one look, not one each."""
        if listener.wait(self._poll_s):
            for _ in range(_BURST_MAX):
                if not listener.wait(0.0):
                    break
