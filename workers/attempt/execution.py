"""What happens in an attempt when nothing goes wrong: fetch the inputs, run the child, deliver what it made."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from pydantic import ValidationError

from jobspecs.events import CheckpointEvent, ChildEvent, FailureEvent, ProgressEvent, StageEvent
from jobspecs.frozen import FrozenHubModel, FrozenInputs, origin_of
from jobspecs.kinds.base import BASE_ROLE
from jobspecs.lifecycle import JobState, Reason
from jobspecs.manifest import Manifest, read_manifest
from jobspecs.problems import InvalidInput
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
from workers.attempt.artifact import Artifact, commit, upload_patiently, was_committed
from workers.attempt.checkpoint_sync import fetch_newest
from workers.attempt.child_output import OutputReader
from workers.attempt.child_watch import ChildWatch, never_unwatched
from workers.attempt.orders import Order, Orders
from workers.attempt.services import AssignedJob, AttemptRecord, Fenced, Over, Workbench, over_by
from workers.attempt.workspace import Workplace
from workers.files.hub import HubAccess, HubUnavailable, hub_access
from workers.process.child_task import EXIT_STOPPED, ChildTask
from workers.process.zygote_client import ChildProcess, ZygoteUnavailable
from workers.run.failures import host_reason_of, known_reason, oom_kills, reason_of_death

log = logging.getLogger(__name__)

#: Seconds between two tries while the zygote is away.
_RETRY_S = 0.2
#: Seconds for which an attempt waits for a zygote; one that is started again has to load torch first.
_ZYGOTE_PATIENCE_S = 120.0


class Journey:
    """`go` returns when the result is committed. Raises Over, Fenced, Unkillable."""

    def __init__(
        self, job: AssignedJob, bench: Workbench, orders: Orders, record: AttemptRecord, place: Workplace
    ) -> None:
        self._job = job
        self._bench = bench
        self._orders = orders
        self._record = record
        self._place = place
        self._failure: FailureEvent | None = None
        #: The child did not end by itself: it went down with its zygote.
        self._child_orphaned = False

    def go(self) -> None:
        self._record.check()
        self._record.move({JobState.assigned}, JobState.preparing)
        try:
            task = self._prepare()
        except (Over, Fenced):
            raise
        except TransferStopped:
            self._record.check()
            raise Fenced from None
        except (ObjectNotFound, ObjectCorrupt) as error:
            raise Over(Reason.corrupt_artifact, str(error)) from error
        except (ObjectStoreUnavailable, ObjectStoreRefused, HubUnavailable) as error:
            raise Over(Reason.storage_unavailable, str(error)) from error
        except Exception as error:
            log.exception("job %s: attempt %d can't be prepared", self._job.id, self._job.fence)
            raise Over(*host_reason_of(error)) from error
        self._record.check()
        self._run_child(task)
        self._deliver()

    def _prepare(self) -> ChildTask:
        place, bench, job, folders = self._place, self._bench, self._job, self._place.folders
        place.recorder.add(StageEvent(stage="fetch"))
        inputs = FrozenInputs.model_validate(job.inputs)
        access = self._hub_access() if any(isinstance(m, FrozenHubModel) for m in inputs.by_role().values()) else None
        placed = bench.cache.place_inputs(inputs, folders.inputs, should_stop=self._unwanted, access=access)
        self._record.check()
        saved = folders.inputs / "checkpoint"
        checkpoint = self._record.persist(
            lambda: fetch_newest(bench.database, bench.store, job.id, saved, place.warn, self._unwanted)
        )
        task = ChildTask(
            spec=job.spec,
            work_dir=folders.root,
            dataset_path=placed.dataset,
            dataset_dialect=inputs.dataset.how_to_read() if inputs.dataset else None,
            held_out_path=placed.held_out,
            held_out_dialect=inputs.held_out.how_to_read() if inputs.held_out else None,
            test_path=placed.test,
            test_dialect=inputs.test.how_to_read() if inputs.test else None,
            datasets={role: dataset.origin for role, dataset in inputs.datasets_by_role().items()},
            model_dir=placed.base,
            models={role: folder for role, folder in placed.models.items() if role != BASE_ROLE},
            origins={role: origin_of(model) for role, model in inputs.by_role().items()},
            output_dir=folders.output,
            checkpoints_dir=folders.checkpoints,
            resume_from=checkpoint,
            checked=inputs.checked,
            estimate=inputs.estimate,
            gpus=job.gpus,
        )
        folders.task.write_text(task.model_dump_json(), encoding="utf-8")
        return task

    def _hub_access(self) -> HubAccess | None:
        """The owner's own token. It is used here, and the child knows nothing of it."""
        return self._record.transact(lambda work: hub_access(work, self._bench.secret_box, self._job.owner_id))

    def _unwanted(self) -> bool:
        """An order stands, or the lease is lost: nothing more need be fetched."""
        return self._orders.current is not Order.none or self._record.lease.overdue

    def _run_child(self, task: ChildTask) -> None:
        """Returns when the child ended well; raises Over, Fenced or Unkillable otherwise."""
        max_runtime_s = parse_spec(self._job.spec).resources.max_runtime.total_seconds()
        oom_kills_before = oom_kills()
        child = self._spawn(self._place.folders.task)
        with never_unwatched(child):
            reader = OutputReader(child, self._take_event)
            watch = ChildWatch(
                child,
                self._orders,
                self._record.lease,
                max_runtime_s=max_runtime_s,
                kill_grace_s=self._bench.times.kill_grace_s,
            )
            self._record.move({JobState.preparing}, JobState.running)
            status = watch.wait()
        reader.finish(timeout_s=5.0)
        self._child_orphaned = child.orphaned
        self._judge(status, oom_kills_before)

    def _judge(self, status: int, oom_kills_before: int) -> None:
        """What the child's end means."""
        order = self._orders.current
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
        if self._child_orphaned:
            raise Over(Reason.host_defect, "The zygote of the worker died, and the job's process with it.")
        if code < 0:
            raise Over(*reason_of_death(-code, oom_kills_before=oom_kills_before))
        if code == EXIT_STOPPED:
            raise Over(Reason.worker_stopped, "The job stopped by itself and wrote a checkpoint.")
        raise Over(Reason.crashed, f"The job's process ended with code {code} and gave no reason.")

    def _deliver(self) -> None:
        place = self._place
        place.checkpoints.stop()
        try:
            manifest = read_manifest(place.folders.output)
        except (FileNotFoundError, ValidationError) as error:
            raise Over(Reason.internal_error, f"The artifact's manifest can't be read: {error}") from error
        artifact = self._described(manifest)
        self._record.move({JobState.running, JobState.preempting, JobState.pausing}, JobState.uploading)
        place.recorder.add(StageEvent(stage="upload"))
        try:
            artifact = upload_patiently(
                artifact,
                self._bench.store,
                self._bench.database,
                interrupted=self._interrupted,
                on_progress=self._sent,
                warn=place.warn,
            )
        except TransferStopped:
            self._discard(artifact)
            self._record.check()
            raise Fenced from None
        except ObjectCorrupt as error:
            self._discard(artifact)
            raise Over(Reason.corrupt_artifact, str(error)) from error
        self._record.persist(place.recorder.flush)
        # When no answer to the commit comes before the lease is overdue, it may have happened: then nothing is deleted.
        if not self._record.persist(lambda: self._commit(artifact)):
            self._discard(artifact)
            self._record.refused()
        log.info("job %s: attempt %d committed its result", self._job.id, self._job.fence)
        self._bench.forget_checkpoints(self._job.id)

    def _described(self, manifest: Manifest) -> Artifact:
        """The artifact, with the profile of a data set: it is read before the upload, never inside a transaction."""
        try:
            return Artifact.describe(self._job.id, self._job.fence, self._place.folders.output, manifest)
        except InvalidInput as error:
            raise Over(Reason.internal_error, f"The data set that was made can't be read: {error}") from error

    def _commit(self, artifact: Artifact) -> bool:
        job, actor = self._job, self._bench.actor
        with self._bench.database.unit_of_work() as work:
            done = commit(work, artifact, name=job.name, actor=actor)
            return done or was_committed(work, artifact)

    def _spawn(self, task: Path) -> ChildProcess:
        given_up_at = time.monotonic() + _ZYGOTE_PATIENCE_S
        while True:
            try:
                return self._bench.spawn(task)
            except ZygoteUnavailable as error:
                log.info("job %s waits: %s", self._job.id, error)
                if time.monotonic() >= given_up_at:
                    raise Over(Reason.host_defect, f"The worker can't start processes: {error}.") from error
                self._orders.wait(_RETRY_S)
                self._record.check()

    def _interrupted(self, seconds: float) -> bool:
        """Waits, and tells whether the upload must end. A stopping worker lets it go on for its own grace."""
        weak = (Order.preempt, Order.stop, Order.timeout)
        standing = self._orders.current
        order = self._orders.wait(seconds, above=standing if standing in weak else Order.none)
        if order is Order.stop and self._orders.stands_s > self._bench.times.kill_grace_s:
            return True
        return order not in (Order.none, *weak) or self._record.lease.overdue

    def _take_event(self, event: ChildEvent) -> None:
        if isinstance(event, FailureEvent):
            self._failure = event
        elif isinstance(event, CheckpointEvent):
            try:
                self._place.checkpoints.add(event, self._place.folders.root)
            except (OSError, ValueError) as error:
                self._place.warn(f"The checkpoint at step {event.step} is not kept: {error}")
        self._place.recorder.add(event)

    def _sent(self, bytes_sent: int, bytes_total: int) -> None:
        self._place.recorder.add(ProgressEvent(stage="upload", step=bytes_sent, steps_total=bytes_total))

    def _discard(self, artifact: Artifact) -> None:
        """Deletes what was uploaded in vain. If that fails it is invisible, and swept once the job has ended."""
        try:
            with self._bench.database.unit_of_work() as work:
                # Its answer lost, a commit may have happened, and the job be deleted since: then the result is alone.
                committed = work.garbage.named_by_versions([artifact.prefix])
            if not committed:
                self._bench.store.delete(artifact.prefix)
        except (ObjectStoreError, DatabaseUnavailable) as error:
            log.warning("job %s: %s stays behind in the object store: %s", self._job.id, artifact.prefix, error)
