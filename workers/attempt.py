"""One attempt at one job, from `assigned` to its end, in a thread of the worker.

Every write names the attempt's fence. A refused write means that somebody else decides about the job now: a user
cancelled it, or the lease expired and another attempt may be running. Then this one ends without a trace.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path

from pydantic import ValidationError

from jobspecs.events import (
    LOG_LINE_CHARS_MAX,
    CheckpointEvent,
    ChildEvent,
    FailureEvent,
    LogEvent,
    ProgressEvent,
    StageEvent,
)
from jobspecs.frozen import FrozenInputs
from jobspecs.lifecycle import TERMINAL, JobState, Reason
from jobspecs.manifest import read_manifest
from jobspecs.registry import parse_spec
from storage.database import DatabaseUnavailable
from storage.objects import (
    ObjectCorrupt,
    ObjectNotFound,
    ObjectStoreError,
    ObjectStoreRefused,
    ObjectStoreUnavailable,
    TransferStopped,
)
from workers.attempt_bench import AssignedJob, AttemptRecord, Fenced, Over, Workbench, over_by
from workers.checkpoint_sync import CheckpointUploader, fetch_newest, forget_checkpoints
from workers.child_output import OutputReader
from workers.child_task import EXIT_STOPPED, ChildTask
from workers.failures import known_reason, oom_kills, reason_of, reason_of_death
from workers.hub import HubUnavailable
from workers.orders import Order, Orders
from workers.recorder import EventRecorder
from workers.result import Artifact, commit, upload_patiently, was_committed
from workers.scratch import AttemptFolders
from workers.watch import ChildWatch, Unkillable
from workers.zygote_client import ChildProcess, ZygoteUnavailable

log = logging.getLogger(__name__)

#: Seconds between two tries while the zygote is away.
_RETRY_S = 0.2
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
        self._failure: FailureEvent | None = None
        self._folders: AttemptFolders
        self._recorder: EventRecorder
        self._checkpoints: CheckpointUploader
        self._thread = threading.Thread(target=self._run, name=f"attempt-{job.id}-{job.fence}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def finished(self) -> bool:
        return self._thread.ident is not None and not self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        job, bench = self.job, self._bench
        log.info("job %s: attempt %d begins", job.id, job.fence)

        def fence_off() -> None:
            self.orders.give(Order.fenced)

        self._folders = bench.scratch.create(job.id, job.fence)
        self._recorder = EventRecorder(job.id, job.fence, bench.database, bench.publisher, fence_off)
        self._checkpoints = CheckpointUploader(
            job.id, job.fence, self._folders.outgoing, bench.database, bench.store, fence_off
        )
        try:
            self.record.lease.start()
            self._guarded_journey()
        except Fenced:
            log.warning("job %s: attempt %d is fenced off and leaves nothing", job.id, job.fence)
        except Exception:
            log.exception("job %s: attempt %d ended by a defect; its lease will expire", job.id, job.fence)
        finally:
            self.record.lease.end()
            self._checkpoints.stop()
            self._recorder.close()
            bench.scratch.remove(self._folders)
            log.info("job %s: attempt %d is over", job.id, job.fence)

    def _guarded_journey(self) -> None:
        """Every way out but success and the fence is written down with its reason."""
        try:
            self._journey()
        except Over as over:
            self._conclude(over.reason, over.message)
        except Unkillable as error:
            self.unkillable = True
            self._conclude(Reason.crashed, str(error))

    def _journey(self) -> None:
        self.record.check()
        self.record.move(JobState.assigned, JobState.preparing)
        try:
            task = self._prepare()
        except (Over, Fenced):
            raise
        except (ObjectNotFound, ObjectCorrupt) as error:
            raise Over(Reason.corrupt_artifact, str(error)) from error
        except (ObjectStoreUnavailable, ObjectStoreRefused, HubUnavailable) as error:
            raise Over(Reason.storage_unavailable, str(error)) from error
        except Exception as error:
            raise Over(*reason_of(error)) from error
        self.record.check()
        self._run_child(task)
        self._deliver()

    def _prepare(self) -> ChildTask:
        self._recorder.add(StageEvent(stage="fetch"))
        bench, job, folders = self._bench, self.job, self._folders
        inputs = FrozenInputs.model_validate(job.inputs)
        dataset, model_dir = bench.cache.place_inputs(inputs, folders.inputs)
        self.record.check()
        checkpoint = self.record.persist(
            lambda: fetch_newest(bench.database, bench.store, job.id, folders.inputs / "checkpoint", self._warn)
        )
        task = ChildTask(
            spec=job.spec,
            work_dir=folders.root,
            dataset_path=dataset,
            model_dir=model_dir,
            output_dir=folders.output,
            checkpoints_dir=folders.checkpoints,
            resume_from=checkpoint,
            gpus=job.gpus,
        )
        folders.task.write_text(task.model_dump_json(), encoding="utf-8")
        return task

    def _run_child(self, task: ChildTask) -> None:
        """Returns when the child ended well; raises Over or Fenced otherwise."""
        max_runtime_s = parse_spec(self.job.spec).resources.max_runtime.total_seconds()
        oom_kills_before = oom_kills()
        child = self._spawn(self._folders.task)
        reader = OutputReader(child, self._take_event)
        watch = ChildWatch(
            child,
            self.orders,
            self.record.lease,
            max_runtime_s=max_runtime_s,
            kill_grace_s=self._bench.times.kill_grace_s,
        )
        try:
            self.record.move(JobState.preparing, JobState.running)
        except (Over, Fenced):
            child.signal(signal.SIGKILL)
            watch.wait()
            raise
        status = watch.wait()
        reader.finish(timeout_s=5.0)
        self._judge(status, oom_kills_before)

    def _judge(self, status: int, oom_kills_before: int) -> None:
        """What the child's end means."""
        order = self.orders.current
        if order is Order.fenced:
            raise Fenced
        code = os.waitstatus_to_exitcode(status)
        # Work that is done is delivered, even if somebody wanted the place back in its last second.
        if code == 0 and order is not Order.cancel:
            return
        if order is not Order.none:
            raise over_by(order)
        if self._failure is not None:
            raise Over(known_reason(self._failure.reason), self._failure.message)
        if code < 0:
            raise Over(*reason_of_death(-code, oom_kills_before=oom_kills_before))
        if code == EXIT_STOPPED:
            raise Over(Reason.worker_stopped, "The job stopped by itself and wrote a checkpoint.")
        raise Over(Reason.crashed, f"The job's process ended with code {code} and gave no reason.")

    def _deliver(self) -> None:
        self._checkpoints.stop()
        try:
            manifest = read_manifest(self._folders.output)
        except (FileNotFoundError, ValidationError) as error:
            raise Over(Reason.internal_error, f"The artifact's manifest can't be read: {error}") from error
        artifact = Artifact(self.job.id, self.job.fence, self._folders.output, manifest)
        self.record.move(JobState.running, JobState.uploading)
        self._recorder.add(StageEvent(stage="upload"))
        try:
            upload_patiently(
                artifact, self._bench.store, interrupted=self._interrupted, on_progress=self._sent, warn=self._warn
            )
        except TransferStopped:
            self._discard(artifact)
            self.record.check()
            raise Fenced from None
        except ObjectCorrupt as error:
            self._discard(artifact)
            raise Over(Reason.corrupt_artifact, str(error)) from error
        self.record.persist(self._recorder.flush)
        # When no answer to the commit comes before the lease is overdue, it may have happened: then nothing is deleted.
        if not self.record.persist(lambda: self._commit(artifact)):
            self._discard(artifact)
            self.record.refused()
        log.info("job %s: attempt %d committed its result", self.job.id, self.job.fence)
        self._forget_checkpoints()

    def _commit(self, artifact: Artifact) -> bool:
        job, actor = self.job, self._bench.actor
        with self._bench.database.unit_of_work() as work:
            done = commit(work, artifact, owner_id=job.owner_id, name=job.name, actor=actor)
            return done or was_committed(work, artifact)

    def _conclude(self, reason: Reason, message: str) -> None:
        """Ends the attempt in the database, after what it said and its last checkpoint are safe."""
        if reason is Reason.crashed:
            self._checkpoints.drain(_LAST_CHECKPOINT_S)
        elif reason in (Reason.worker_stopped, Reason.preempted):
            self._checkpoints.drain(self._bench.times.kill_grace_s)
        self._checkpoints.stop()
        self.record.persist(self._recorder.flush)
        row = self.record.end(reason, message)
        if row is not None:
            log.info("job %s: attempt %d ended: %s, now %s", self.job.id, self.job.fence, reason, row.state)
            if row.state in TERMINAL:
                self._forget_checkpoints()

    def _spawn(self, task: Path) -> ChildProcess:
        while True:
            try:
                return self._bench.spawn(task)
            except ZygoteUnavailable as error:
                log.info("job %s waits: %s", self.job.id, error)
                self.orders.wait(_RETRY_S)
                self.record.check()

    def _interrupted(self, seconds: float) -> bool:
        """Waits, and tells whether the upload must end. A stopping worker lets it go on for its own grace."""
        weak = (Order.stop, Order.timeout)
        standing = self.orders.current
        order = self.orders.wait(seconds, above=standing if standing in weak else Order.none)
        if order is Order.stop and self.orders.stands_s > self._bench.times.kill_grace_s:
            return True
        return order not in (Order.none, *weak) or self.record.lease.overdue

    def _take_event(self, event: ChildEvent) -> None:
        if isinstance(event, FailureEvent):
            self._failure = event
        elif isinstance(event, CheckpointEvent):
            try:
                self._checkpoints.add(event, self._folders.root)
            except (OSError, ValueError) as error:
                self._warn(f"The checkpoint at step {event.step} is not kept: {error}")
        self._recorder.add(event)

    def _sent(self, bytes_sent: int, bytes_total: int) -> None:
        self._recorder.add(ProgressEvent(stage="upload", step=bytes_sent, steps_total=bytes_total))

    def _warn(self, message: str) -> None:
        log.warning("job %s: %s", self.job.id, message)
        self._recorder.add(LogEvent(level="warning", message=message[:LOG_LINE_CHARS_MAX]))

    def _discard(self, artifact: Artifact) -> None:
        """Deletes what was uploaded in vain. If that fails it stays: unnamed by any manifest, it is invisible."""
        try:
            self._bench.store.delete(artifact.prefix)
        except ObjectStoreError as error:
            log.warning("job %s: %s stays behind in the object store: %s", self.job.id, artifact.prefix, error)

    def _forget_checkpoints(self) -> None:
        try:
            forget_checkpoints(self._bench.database, self._bench.store, self.job.id, keep=0)
        except (ObjectStoreError, DatabaseUnavailable) as error:
            log.warning("job %s: its checkpoints stay behind: %s", self.job.id, error)
