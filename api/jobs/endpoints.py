"""/v1/jobs."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import Body, Header, Query, Request, Response
from fastapi.responses import PlainTextResponse

from api.authentication import TheUser, guarded_router, requires
from api.documented import JOB_SPEC_BODY, UNKNOWN_OWNER, of_type
from api.errors import ApiError
from api.foreign_files import departing
from api.jobs import pausing, service
from api.jobs.cursors import parse_cursor
from api.jobs.retrying import retry
from api.jobs.schemas import BoostRequest, JobDetail, JobList, LogPage
from api.parts import ThePlatform
from api.references.uses import Deleted
from jobspecs.data_report import DataReport
from jobspecs.estimate import Estimate
from jobspecs.lifecycle import JobState
from jobspecs.references import NAME_PATTERN

router = guarded_router("jobs")


@router.post("/v1/jobs", status_code=201, responses={200: {"model": JobDetail}}, openapi_extra=JOB_SPEC_BODY)
@requires("jobs.submit")
async def submit_job(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    response: Response,
    document: Annotated[dict[str, Any], Body(description="a job spec")],
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255, pattern=r"^[!-~]+$")] = None,
) -> JobDetail:
    """Queues a job. The same `Idempotency-Key` with the same spec gives the earlier job with status 200."""
    async with departing(request) as gone:
        made = partial(service.submit, platform, user, document, idempotency_key, gone.is_set)
        job, created = await platform.lookups.run(made)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return job


@router.post("/v1/jobs/check", openapi_extra=JOB_SPEC_BODY)
@requires("jobs.check")
async def check_job(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    document: Annotated[dict[str, Any], Body(description="a job spec")],
) -> DataReport:
    """Reads the whole data set as the job would, and queues nothing: lengths, duplicates, leaks, refused rows."""
    async with departing(request) as gone:
        return await platform.lookups.run(partial(service.check, platform, user, document, gone.is_set))


@router.post("/v1/jobs/estimate", openapi_extra=JOB_SPEC_BODY)
@requires("jobs.check")
async def estimate_job(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    document: Annotated[dict[str, Any], Body(description="a job spec")],
) -> Estimate:
    """Parameters, memory by part, and a duration band of a job, before it is queued."""
    async with departing(request) as gone:
        return await platform.lookups.run(partial(service.estimate, platform, user, document, gone.is_set))


@router.get("/v1/jobs", responses=UNKNOWN_OWNER)
@requires("jobs.read")
def list_jobs(
    platform: ThePlatform,
    user: TheUser,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[int | None, Query(ge=1, lt=2**63, description="`next_before` of the page before")] = None,
    state: Annotated[
        list[JobState] | None, Query(max_length=len(JobState), description="only these states; may be repeated")
    ] = None,
    everybody: Annotated[bool, Query(alias="all", description="everybody's jobs, for an administrator")] = False,
    owner: Annotated[str | None, Query(pattern=f"^{NAME_PATTERN}$", description="this owner's jobs")] = None,
) -> JobList:
    """Your jobs, newest first; an administrator may ask for others'."""
    whose = service.Whose(everybody=everybody, owner=owner)
    return service.list_jobs(platform, user, whose, states=[*(state or ())], before=before, limit=limit)


@router.get("/v1/jobs/{job_id}")
@requires("jobs.read")
def get_job(platform: ThePlatform, user: TheUser, job_id: UUID) -> JobDetail:
    """One job: state, progress, and the result once it succeeded."""
    return service.get_job(platform, user, job_id)


@router.patch("/v1/jobs/{job_id}")
@requires("jobs.boost")
def boost_job(platform: ThePlatform, user: TheUser, job_id: UUID, request: BoostRequest) -> JobDetail:
    """Puts a job before everybody's jobs with a lower boost; 409 when it has ended."""
    return service.boost(platform, user, job_id, request.boost)


@router.post("/v1/jobs/{job_id}/cancel")
@requires("jobs.cancel")
def cancel_job(platform: ThePlatform, user: TheUser, job_id: UUID) -> JobDetail:
    """Cancels a queued job at once and asks an active one to stop; 409 when it has ended."""
    return service.cancel(platform, user, job_id)


@router.post("/v1/jobs/{job_id}/pause")
@requires("jobs.pause")
def pause_job(platform: ThePlatform, user: TheUser, job_id: UUID) -> JobDetail:
    """Pauses a queued job at once and asks an active one to store a checkpoint and stop; 409 when it can't any more."""
    return pausing.pause(platform, user, job_id)


@router.post("/v1/jobs/{job_id}/resume")
@requires("jobs.pause")
def resume_job(platform: ThePlatform, user: TheUser, job_id: UUID) -> JobDetail:
    """Queues a paused job again, to go on from its newest checkpoint; 409 when it is not paused."""
    return pausing.resume(platform, user, job_id)


@router.delete("/v1/jobs/{job_id}")
@requires("jobs.delete")
def delete_job(platform: ThePlatform, user: TheUser, job_id: UUID) -> Deleted:
    """Deletes an ended job with its log and checkpoints; what it made stays. 409 while it has not ended."""
    return service.delete(platform, user, job_id)


@router.post("/v1/jobs/{job_id}/retry", status_code=201, responses={200: {"model": JobDetail}})
@requires("jobs.retry")
def retry_job(
    platform: ThePlatform,
    user: TheUser,
    response: Response,
    job_id: UUID,
    checkpoint_required: Annotated[bool, Query(description="refuse to start anew")] = False,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255, pattern=r"^[!-~]+$")] = None,
) -> JobDetail:
    """Queues a new job that goes on from a failed or cancelled one's checkpoint; `checkpoint_step` says from where.

    Without a checkpoint it starts anew. 409 when the job has not ended, succeeded, or is being retried. The same
    `Idempotency-Key` gives the earlier retry with status 200.
    """
    job, created = retry(platform, user, job_id, idempotency_key, checkpoint_required=checkpoint_required)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return job


@router.get(
    "/v1/jobs/{job_id}/logs",
    response_model=LogPage,
    responses={200: of_type("text/plain")},
)
@requires("jobs.read")
def get_logs(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    job_id: UUID,
    after: Annotated[str | None, Query(description="`cursor` of the page before, or X-Cursor")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> LogPage | PlainTextResponse:
    """The job's log: lines of text, or JSON when the Accept header asks for it. `X-Cursor` continues after the page."""
    position = parse_cursor(after)
    if position is None:
        raise ApiError(422, f"{after!r} is no cursor: use the one that came with the page before.", param="after")
    page = service.logs(platform, user, job_id, fence=position.fence, number=position.number, limit=limit)
    if "application/json" in request.headers.get("accept", ""):
        return page
    text = "".join(f"{line.at.isoformat(timespec='seconds')} {line.level} {line.message}\n" for line in page.data)
    headers = {"X-Cursor": page.cursor, "X-Has-More": str(page.has_more).lower()}
    return PlainTextResponse(text, headers=headers)
