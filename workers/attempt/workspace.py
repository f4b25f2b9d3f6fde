"""What one attempt works with on its host: folders, the record of its events, and its checkpoints on their way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from uuid import UUID

from jobspecs.events import LOG_LINE_CHARS_MAX, LogEvent
from workers.attempt.checkpoint_sync import CheckpointUploader
from workers.attempt.event_recorder import EventRecorder
from workers.attempt.scratch import AttemptFolders
from workers.attempt.services import AssignedJob, Workbench

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workplace:
    """One attempt's own things."""

    job_id: UUID
    folders: AttemptFolders
    recorder: EventRecorder
    checkpoints: CheckpointUploader

    def warn(self, message: str) -> None:
        """Into the worker's log and the job's."""
        log.warning("job %s: %s", self.job_id, message)
        self.recorder.add(LogEvent(level="warning", message=message[:LOG_LINE_CHARS_MAX]))


@contextmanager
def workplace(job: AssignedJob, bench: Workbench, on_fenced: Callable[[], None]) -> Iterator[Workplace]:
    """A workplace, gone at the end whatever happened. Raises OSError (ENOSPC: disk full)."""
    with ExitStack() as stack:
        folders = bench.scratch.create(job.id, job.fence)
        stack.callback(bench.scratch.remove, folders)
        recorder = EventRecorder(job.id, job.fence, bench.database, bench.publisher, on_fenced, bench.now)
        stack.callback(recorder.close)
        checkpoints = CheckpointUploader(job.id, job.fence, folders.outgoing, bench.database, bench.store, on_fenced)
        stack.callback(checkpoints.stop)
        yield Workplace(job.id, folders, recorder, checkpoints)
