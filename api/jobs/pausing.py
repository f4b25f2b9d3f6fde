"""Pausing jobs and resuming them. Asked twice, either is the same wish."""

from __future__ import annotations

from uuid import UUID

from api.errors import ApiError
from api.jobs.presenting import detail
from api.jobs.schemas import JobDetail
from api.jobs.service import found
from api.parts import Parts
from jobspecs.lifecycle import TERMINAL, JobState
from jobspecs.rights import Principal

_PAUSED = frozenset({JobState.pausing, JobState.paused})
_GOES_ON = frozenset({JobState.queued, JobState.assigned, JobState.preparing, JobState.running, JobState.preempting})


def pause(parts: Parts, user: Principal, job_id: UUID) -> JobDetail:
    """A queued job is paused at once; an active one is `pausing` until its host has stored a checkpoint and stopped.

    Raises ApiError 404, and 409 for one that has ended, is being cancelled or is being delivered.
    """
    with parts.database.unit_of_work() as work:
        row = found(work, user.reach("jobs.pause"), job_id)
        row = work.jobs.request_pause(job_id, actor=user.actor) or row
        state = JobState(row.state)
        if state not in _PAUSED:
            raise _refused(state, "it can't be paused any more.")
        return detail(work, row)


def resume(parts: Parts, user: Principal, job_id: UUID) -> JobDetail:
    """Raises ApiError 404, and 409 for a job that has ended or is ending."""
    with parts.database.unit_of_work() as work:
        row = found(work, user.reach("jobs.pause"), job_id)
        row = work.jobs.resume(job_id, actor=user.actor) or row
        state = JobState(row.state)
        if state not in _GOES_ON:
            raise _refused(state, "there is nothing to resume.")
        return detail(work, row)


def _refused(state: JobState, why: str) -> ApiError:
    if state in TERMINAL:
        return ApiError(409, f"The job has ended already ({state}); {why}", code="job_ended")
    return ApiError(409, f"The job is {state}; {why}", code="job_ending")
