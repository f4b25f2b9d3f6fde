"""One attempt at one job, from `assigned` to its end, in a thread of the worker.

Every write names the attempt's fence. A refused write means that somebody else decides about the job now: a user
cancelled it, or the lease expired and another attempt may be running. Then this one ends without a trace.
"""

from __future__ import annotations

import logging
import threading

from jobspecs.lifecycle import Reason
from workers.attempt.child_watch import Unkillable
from workers.attempt.execution import Journey
from workers.attempt.orders import Order, Orders
from workers.attempt.services import AssignedJob, AttemptRecord, Fenced, Over, Workbench
from workers.attempt.workspace import Workplace, workplace
from workers.run.failures import host_reason_of

log = logging.getLogger(__name__)

#: Seconds that the last checkpoint of a crashed child may take to be stored before the attempt is ended.
_LAST_CHECKPOINT_S = 60.0


class Attempt:
    """Start it with `start`; `finished` tells when its thread has ended and its folders are gone."""

    def __init__(self, job: AssignedJob, bench: Workbench) -> None:
        self.job = job
        self.orders = Orders()
        self.record = AttemptRecord(job, bench, self.orders)
        #: A process of this attempt outlived SIGKILL.
        self.unkillable = False
        self._bench = bench
        self._thread = threading.Thread(target=self._run, name=f"attempt-{job.id}-{job.fence}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def finished(self) -> bool:
        return self._thread.ident is not None and not self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        job = self.job
        log.info("job %s: attempt %d begins", job.id, job.fence)
        try:
            self.record.lease.start()
            self._work()
        except Fenced:
            log.warning("job %s: attempt %d is fenced off and leaves nothing", job.id, job.fence)
        except Exception:
            log.exception("job %s: attempt %d ended by a defect; its lease will expire", job.id, job.fence)
        finally:
            self.record.lease.end()
            log.info("job %s: attempt %d is over", job.id, job.fence)

    def _work(self) -> None:
        job = self.job
        try:
            with workplace(job, self._bench, lambda: self.orders.give(Order.fenced)) as place:
                self._guarded_journey(place)
                self.record.lease.end()
        except Fenced:
            raise
        except Exception as error:
            # No workplace could be made, or not be cleared away; when the attempt has ended already, it stays so.
            log.exception("job %s: attempt %d has no proper workplace", job.id, job.fence)
            self.record.end(*host_reason_of(error))

    def _guarded_journey(self, place: Workplace) -> None:
        """Every way out but success and the fence is written down with its reason."""
        job = self.job
        try:
            Journey(job, self._bench, self.orders, self.record, place).go()
        except Over as over:
            self._conclude(place, over.reason, over.message)
        except Unkillable as error:
            self.unkillable = True
            self._conclude(place, Reason.crashed, str(error))
        except Fenced:
            raise
        except Exception as error:
            log.exception("job %s: attempt %d met a defect", job.id, job.fence)
            self._conclude(place, *host_reason_of(error))

    def _conclude(self, place: Workplace, reason: Reason, message: str) -> None:
        """Ends the attempt in the database, after what it said and its last checkpoint are safe."""
        job = self.job
        if reason is Reason.crashed:
            place.checkpoints.drain(_LAST_CHECKPOINT_S)
        elif reason in (Reason.worker_stopped, Reason.preempted):
            place.checkpoints.drain(self._bench.times.kill_grace_s)
        place.checkpoints.stop()
        try:
            self.record.persist(place.recorder.flush)
        except Fenced:
            raise
        except Exception:
            log.exception("job %s: the last events of attempt %d are lost", job.id, job.fence)
        row = self.record.end(reason, message)
        if row is not None:
            log.info("job %s: attempt %d ended: %s, now %s", job.id, job.fence, reason, row.state)
