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
    #: Its owner wants it to stand still; the host has not yet confirmed it.
    pausing = "pausing"
    #: Stands still, without a place, until it is resumed; then it goes on from its newest checkpoint.
    paused = "paused"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


S = JobState

#: States in which a host holds the job: it has a lease, a fence and uses slots.
ACTIVE = frozenset({S.assigned, S.preparing, S.running, S.uploading, S.cancelling, S.preempting, S.pausing})
#: States that never change again.
TERMINAL = frozenset({S.succeeded, S.failed, S.cancelled})

#: The allowed transitions. Everything that isn't here is refused by `JobRepository.transition`.
TRANSITIONS: MappingProxyType[JobState, frozenset[JobState]] = MappingProxyType(
    {
        S.queued: frozenset({S.assigned, S.paused, S.cancelled, S.failed}),
        S.assigned: frozenset({S.preparing, S.queued, S.cancelling, S.preempting, S.pausing, S.failed}),
        S.preparing: frozenset({S.running, S.queued, S.cancelling, S.preempting, S.pausing, S.failed}),
        S.running: frozenset({S.uploading, S.queued, S.cancelling, S.preempting, S.pausing, S.failed}),
        # Not to `preempting` or `pausing`: its work is done, and it gives its place back by being delivered.
        S.uploading: frozenset({S.succeeded, S.queued, S.cancelling, S.failed}),
        S.cancelling: frozenset({S.cancelled}),
        # To `uploading`: it finished before it heard that somebody wanted the place.
        S.preempting: frozenset({S.uploading, S.queued, S.cancelling, S.pausing, S.failed}),
        # To `preempting`: it was resumed before the host had confirmed.
        S.pausing: frozenset({S.uploading, S.paused, S.preempting, S.cancelling, S.failed}),
        S.paused: frozenset({S.queued, S.cancelled}),
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
    host_defect = "host_defect"
    hosts_lost = "hosts_lost"
    storage_unavailable = "storage_unavailable"
    worker_stopped = "worker_stopped"
    preempted = "preempted"
    cancelled_by_user = "cancelled_by_user"
    paused_by_user = "paused_by_user"
    unsatisfiable = "unsatisfiable"
    internal_error = "internal_error"


class Loss(StrEnum):
    """Whose loss an attempt was that brought no result. Each is counted apart, anew after each new checkpoint."""

    #: The job's own process died.
    crash = "crash"
    #: The host failed under it.
    host = "host"


#: So many losses without a new checkpoint between them end the job. Of hosts more: they die for reasons of their own.
LOSSES_MAX: MappingProxyType[Loss, int] = MappingProxyType({Loss.crash: 3, Loss.host: 5})


class ReasonRule(NamedTuple):
    """What a reason means for the job."""

    #: What the user can do.
    remedy: str
    #: Put back in the queue instead of failed: only for what the infrastructure did.
    retried: bool = False
    #: What it counts as; `ends_as` is the reason of a job that met LOSSES_MAX of them.
    counts_as: Loss | None = None
    ends_as: Reason | None = None
    #: The next attempt goes to another host, where there is one.
    avoids_host: bool = False


REASONS: MappingProxyType[Reason, ReasonRule] = MappingProxyType(
    {
        Reason.invalid_dataset: ReasonRule(
            "Mend the rows named in the message, push the data set again and submit again."
        ),
        Reason.invalid_model: ReasonRule(
            "Choose a base model of a supported architecture, with safetensors weights and a tokenizer."
        ),
        Reason.corrupt_artifact: ReasonRule(
            "A stored object no longer has its sha256. Restore it from a backup, or push or train it again."
        ),
        Reason.out_of_memory: ReasonRule("Lower batch_size or max_length, or ask for more memory in resources."),
        Reason.nan_loss: ReasonRule(
            "Lower learning_rate (`eigenwerk check` warns of one far above what is usual) and look for broken rows in "
            "the data set."
        ),
        Reason.disk_full: ReasonRule(
            "The scratch disk of a worker was full; the job is tried elsewhere, or here once there is room. Free space "
            "on it (EIGENWERK_SCRATCH_DIR).",
            retried=True,
            counts_as=Loss.host,
            ends_as=Reason.disk_full,
            avoids_host=True,
        ),
        Reason.timeout: ReasonRule("Raise resources.max_runtime, or train for fewer epochs."),
        Reason.crashed: ReasonRule(
            "Read the log; the job is tried again from its last checkpoint.",
            retried=True,
            counts_as=Loss.crash,
            ends_as=Reason.poisoned,
        ),
        Reason.poisoned: ReasonRule(
            f"The job crashed its process {LOSSES_MAX[Loss.crash]} times without a new checkpoint between. Read the "
            "last attempt's log before you retry or submit it again."
        ),
        Reason.lease_expired: ReasonRule(
            "The worker vanished; the job goes on elsewhere from its last checkpoint.",
            retried=True,
            counts_as=Loss.host,
            ends_as=Reason.hosts_lost,
        ),
        Reason.host_defect: ReasonRule(
            "The worker could not run the job, by no fault of the job's; it is tried on another host.",
            retried=True,
            counts_as=Loss.host,
            ends_as=Reason.hosts_lost,
            avoids_host=True,
        ),
        Reason.hosts_lost: ReasonRule(
            f"{LOSSES_MAX[Loss.host]} times its host died or failed without a new checkpoint between, and the job may "
            "be why. Look at the workers' logs and at their memory; then retry it, or ask for more in resources."
        ),
        Reason.storage_unavailable: ReasonRule(
            "The object store did not answer; the job is tried again.", retried=True, avoids_host=True
        ),
        Reason.worker_stopped: ReasonRule(
            "The worker was stopped; the job goes on from its last checkpoint.", retried=True
        ),
        Reason.preempted: ReasonRule("Its place was wanted back; it goes on from its last checkpoint.", retried=True),
        Reason.cancelled_by_user: ReasonRule(
            "Retry it to go on from its last checkpoint, or submit the spec again to start anew."
        ),
        Reason.paused_by_user: ReasonRule("Resume it (`eigenwerk resume`), and it goes on from its last checkpoint."),
        Reason.unsatisfiable: ReasonRule("No host is large enough. Ask for less in resources, or add a worker."),
        Reason.internal_error: ReasonRule(
            "This is a defect of the platform; the log has the traceback. Please report it."
        ),
    }
)


def may(source: JobState, target: JobState) -> bool:
    """Whether a job may go from `source` to `target`."""
    return target in TRANSITIONS[source]
