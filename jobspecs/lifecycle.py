"""The states of a job, the allowed transitions between them, and the closed list of reasons. All of it is data."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class JobState(StrEnum):
    """Where a job is. Why it is there is a separate field, the reason."""

    #: Waits for a place; nothing holds it.
    queued = "queued"
    #: A host was chosen; the lease runs.
    assigned = "assigned"
    #: The host fetches and verifies data set, base model and checkpoint.
    preparing = "preparing"
    #: The child works.
    running = "running"
    #: The child has ended well; its artifact is being sent.
    uploading = "uploading"
    #: Somebody asked for the end; the host has not yet confirmed it.
    cancelling = "cancelling"
    #: The scheduler wants the place back; the job will be queued again and resume.
    preempting = "preempting"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


S = JobState

#: States in which a host holds the job: it has a lease, a fence and uses slots.
ACTIVE = frozenset({S.assigned, S.preparing, S.running, S.uploading, S.cancelling, S.preempting})
#: States that never change again.
TERMINAL = frozenset({S.succeeded, S.failed, S.cancelled})

#: The allowed transitions. Everything that isn't here is refused by `JobRepository.transition`.
TRANSITIONS: MappingProxyType[JobState, frozenset[JobState]] = MappingProxyType(
    {
        S.queued: frozenset({S.assigned, S.cancelled, S.failed}),
        S.assigned: frozenset({S.preparing, S.queued, S.cancelling, S.preempting, S.failed}),
        S.preparing: frozenset({S.running, S.queued, S.cancelling, S.preempting, S.failed}),
        S.running: frozenset({S.uploading, S.queued, S.cancelling, S.preempting, S.failed}),
        S.uploading: frozenset({S.succeeded, S.queued, S.cancelling, S.preempting, S.failed}),
        S.cancelling: frozenset({S.cancelled}),
        S.preempting: frozenset({S.queued, S.cancelling, S.failed}),
        S.succeeded: frozenset(),
        S.failed: frozenset(),
        S.cancelled: frozenset(),
    }
)


class Reason(StrEnum):
    """Why a job failed, was put back in the queue or was cancelled."""

    invalid_dataset = "invalid_dataset"
    invalid_model = "invalid_model"
    corrupt_artifact = "corrupt_artifact"
    out_of_memory = "out_of_memory"
    nan_loss = "nan_loss"
    disk_full = "disk_full"
    timeout = "timeout"
    crashed = "crashed"
    poisoned = "poisoned"
    lease_expired = "lease_expired"
    storage_unavailable = "storage_unavailable"
    worker_stopped = "worker_stopped"
    preempted = "preempted"
    cancelled_by_user = "cancelled_by_user"
    unsatisfiable = "unsatisfiable"
    internal_error = "internal_error"


class ReasonRule(NamedTuple):
    """What a reason means for the job."""

    #: Put back in the queue instead of failed: only for what the infrastructure did.
    retried: bool
    #: Adds one to `crash_count`; at CRASHES_MAX the job fails as `poisoned`.
    counts_as_crash: bool
    #: What the user can do.
    remedy: str


#: A job whose attempts crashed this often is not tried again.
CRASHES_MAX = 3

REASONS: MappingProxyType[Reason, ReasonRule] = MappingProxyType(
    {
        Reason.invalid_dataset: ReasonRule(
            False, False, "Mend the rows named in the message, push the data set again and submit again."
        ),
        Reason.invalid_model: ReasonRule(
            False, False, "Choose a base model of a supported architecture, with safetensors weights and a tokenizer."
        ),
        Reason.corrupt_artifact: ReasonRule(
            False,
            False,
            "A stored object no longer has its sha256. Restore it from a backup, or push or train it again.",
        ),
        Reason.out_of_memory: ReasonRule(
            False, False, "Lower batch_size or max_length, or ask for more memory in resources."
        ),
        Reason.nan_loss: ReasonRule(
            False, False, "Lower learning_rate (2e-5 to 5e-5 is usual) and look for broken rows in the data set."
        ),
        Reason.disk_full: ReasonRule(
            False, False, "Free space on the worker's scratch disk, or keep fewer checkpoints, then submit again."
        ),
        Reason.timeout: ReasonRule(False, False, "Raise resources.max_runtime, or train for fewer epochs."),
        Reason.crashed: ReasonRule(True, True, "Read the log; the job is tried again from its last checkpoint."),
        Reason.poisoned: ReasonRule(
            False,
            False,
            f"The job crashed its process {CRASHES_MAX} times. Read the last attempt's log before you submit it again.",
        ),
        Reason.lease_expired: ReasonRule(
            True, True, "The worker vanished; the job goes on elsewhere from its last checkpoint."
        ),
        Reason.storage_unavailable: ReasonRule(True, False, "The object store did not answer; the job is tried again."),
        Reason.worker_stopped: ReasonRule(
            True, False, "The worker was stopped; the job goes on from its last checkpoint."
        ),
        Reason.preempted: ReasonRule(
            True, False, "A job that goes first needed the place; this one goes on from its last checkpoint."
        ),
        Reason.cancelled_by_user: ReasonRule(False, False, "Submit the spec again to start it anew."),
        Reason.unsatisfiable: ReasonRule(
            False, False, "No host is large enough. Ask for less in resources, or add a worker."
        ),
        Reason.internal_error: ReasonRule(
            False, False, "This is a defect of the platform; the log has the traceback. Please report it."
        ),
    }
)


def may(source: JobState, target: JobState) -> bool:
    """Whether a job may go from `source` to `target`."""
    return target in TRANSITIONS[source]
