"""The states of a sweep and of its trials, the allowed transitions, and the closed list of reasons, as data."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType


class SweepState(StrEnum):
    running = "running"
    #: Somebody asked for the end; what runs has not ended yet.
    cancelling = "cancelling"
    #: There is a winner, and it was confirmed where that was asked for.
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


ENDED = frozenset({SweepState.succeeded, SweepState.failed, SweepState.cancelled})


class TrialState(StrEnum):
    """Where a trial is. Why it is there is a separate field, the reason."""

    #: Its job was submitted and has not ended.
    running = "running"
    #: It stands still at a rung, or time ran out; its job is paused or being so, and keeps its checkpoint.
    stopped = "stopped"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


T = TrialState

#: States in which a trial's job has ended.
SETTLED = frozenset({T.succeeded, T.failed, T.cancelled})

TRIAL_TRANSITIONS: MappingProxyType[TrialState, frozenset[TrialState]] = MappingProxyType(
    {
        T.running: frozenset({T.stopped, T.succeeded, T.failed, T.cancelled}),
        # To `running`: it turned out to be among the best. The others: its job ended before it heard, or by hand.
        T.stopped: frozenset({T.running, T.succeeded, T.failed, T.cancelled}),
        T.succeeded: frozenset(),
        T.failed: frozenset(),
        T.cancelled: frozenset(),
    }
)


class TrialReason(StrEnum):
    """Why a trial stopped, failed or was cancelled."""

    #: Others were better at the same rung.
    behind = "behind"
    #: The sweep's time had run out.
    out_of_time = "out_of_time"
    #: The platform refuses its values, as it would by hand; the message says why.
    refused = "refused"
    #: What it should read was deleted.
    input_deleted = "input_deleted"
    job_failed = "job_failed"
    job_cancelled = "job_cancelled"
    job_deleted = "job_deleted"
    #: Its job succeeded without the figure that decides.
    not_measured = "not_measured"
    cancelled_by_user = "cancelled_by_user"


#: The number of the job that confirms the winner; trials count from 1.
CONFIRMATION = 0


def may_move(source: TrialState, target: TrialState) -> bool:
    """Whether a trial may go from `source` to `target`."""
    return target in TRIAL_TRANSITIONS[source]
