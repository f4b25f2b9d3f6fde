"""The states of a pipeline and of its steps, the allowed transitions, and the closed list of reasons, as data.

A step that is a job has the job's own states beside these; here `running` means that the job has been submitted.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType


class PipelineState(StrEnum):
    running = "running"
    #: Somebody asked for the end; what runs has not ended yet.
    cancelling = "cancelling"
    #: Every step succeeded, or was skipped by its condition.
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


#: A retry makes a pipeline run again that ended without success.
ENDED = frozenset({PipelineState.succeeded, PipelineState.failed, PipelineState.cancelled})
RETRYABLE = frozenset({PipelineState.failed, PipelineState.cancelled})


class StepState(StrEnum):
    """Where a step is. Why it is there is a separate field, the reason."""

    #: What it needs has not ended.
    waiting = "waiting"
    #: Its job was submitted, or its deployment is wanted and not yet ready.
    running = "running"
    succeeded = "succeeded"
    #: It was not done and will not be: the reason says why.
    skipped = "skipped"
    failed = "failed"
    cancelled = "cancelled"


S = StepState

#: States in which nothing more happens to a step, unless the pipeline is retried.
SETTLED = frozenset({S.succeeded, S.skipped, S.failed, S.cancelled})

#: The allowed transitions. The last three lead back: a retry.
STEP_TRANSITIONS: MappingProxyType[StepState, frozenset[StepState]] = MappingProxyType(
    {
        # To `succeeded` at once: an alias is moved, or an earlier success is taken.
        S.waiting: frozenset({S.running, S.succeeded, S.skipped, S.failed, S.cancelled}),
        S.running: frozenset({S.succeeded, S.failed, S.cancelled}),
        S.succeeded: frozenset(),
        S.skipped: frozenset({S.waiting}),
        S.failed: frozenset({S.waiting}),
        S.cancelled: frozenset({S.waiting}),
    }
)


class StepReason(StrEnum):
    """Why a step was skipped, failed, was cancelled, or succeeded without being done."""

    condition_false = "condition_false"
    #: A figure that the condition names was not measured.
    condition_unknown = "condition_unknown"
    needs_failed = "needs_failed"
    needs_skipped = "needs_skipped"
    #: The platform refuses what the step asks for, as it would by hand; the message says why.
    refused = "refused"
    #: What it should read was deleted.
    input_deleted = "input_deleted"
    job_failed = "job_failed"
    job_cancelled = "job_cancelled"
    job_deleted = "job_deleted"
    deployment_failed = "deployment_failed"
    deployment_changed = "deployment_changed"
    #: An earlier success with the same inputs was taken.
    reused = "reused"
    cancelled_by_user = "cancelled_by_user"


def may_move(source: StepState, target: StepState) -> bool:
    """Whether a step may go from `source` to `target`."""
    return target in STEP_TRANSITIONS[source]
