"""/v1/fine_tuning/jobs."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request

from api.authentication import TheUser, requires
from api.errors import ApiError
from api.fine_tuning import service
from api.fine_tuning.schemas import (
    FineTuningCheckpoints,
    FineTuningEvents,
    FineTuningJob,
    FineTuningJobs,
    FineTuningRequest,
)
from api.foreign_files import departing
from api.inference.openai_route import OpenAIRoute, openai_router
from api.jobs import pausing
from api.jobs import service as jobs
from api.parts import ThePlatform

router = openai_router("fine-tuning")

JobId = Annotated[str, Path(max_length=100, description="ftjob-…")]
After = Annotated[str | None, Query(max_length=100, description="the last id of the page before")]
_NOTE = re.compile(r"metadata\[(.{1,64})\]", re.DOTALL)


class _ListRoute(OpenAIRoute):
    """Takes `metadata[NAME]=VALUE`, as OpenAI's clients write it."""

    open_query = _NOTE


listing = APIRouter(route_class=_ListRoute, tags=["fine-tuning"])


@router.post("/v1/fine_tuning/jobs")
@requires("jobs.submit")
async def create_job(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    body: FineTuningRequest,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255, pattern=r"^[!-~]+$")] = None,
) -> FineTuningJob:
    """Queues a job of the kind finetune-llm. Its data are checked before, and refused with their lines."""
    async with departing(request) as gone:
        made = partial(service.create, platform, user, body, idempotency_key, gone.is_set)
        return await platform.lookups.run(made)


@listing.get("/v1/fine_tuning/jobs")
@requires("jobs.read")
def list_jobs(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> FineTuningJobs:
    """Your jobs of the kind finetune-llm, newest first, however they were submitted."""
    notes = {match[1]: value for name, value in request.query_params.multi_items() if (match := _NOTE.fullmatch(name))}
    if len(notes) > 16:
        raise ApiError(400, "Sixteen at most.", param="metadata")
    return service.list_jobs(platform, user, after=after, limit=limit, notes=notes)


@router.get("/v1/fine_tuning/jobs/{fine_tuning_job_id}")
@requires("jobs.read")
def get_job(platform: ThePlatform, user: TheUser, fine_tuning_job_id: JobId) -> FineTuningJob:
    return service.get(platform, user, fine_tuning_job_id)


@router.post("/v1/fine_tuning/jobs/{fine_tuning_job_id}/cancel")
@requires("jobs.cancel")
def cancel_job(platform: ThePlatform, user: TheUser, fine_tuning_job_id: JobId) -> FineTuningJob:
    """As for any job: a queued one at once, an active one as soon as its worker has stopped it."""
    return service.change(platform, user, fine_tuning_job_id, jobs.cancel)


@router.post("/v1/fine_tuning/jobs/{fine_tuning_job_id}/pause")
@requires("jobs.pause")
def pause_job(platform: ThePlatform, user: TheUser, fine_tuning_job_id: JobId) -> FineTuningJob:
    """Gives its place back, once it has stored a checkpoint."""
    return service.change(platform, user, fine_tuning_job_id, pausing.pause)


@router.post("/v1/fine_tuning/jobs/{fine_tuning_job_id}/resume")
@requires("jobs.pause")
def resume_job(platform: ThePlatform, user: TheUser, fine_tuning_job_id: JobId) -> FineTuningJob:
    """Queues it again, to go on from its newest checkpoint."""
    return service.change(platform, user, fine_tuning_job_id, pausing.resume)


@router.get("/v1/fine_tuning/jobs/{fine_tuning_job_id}/events")
@requires("jobs.read")
def list_events(
    platform: ThePlatform,
    user: TheUser,
    fine_tuning_job_id: JobId,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
) -> FineTuningEvents:
    """What has happened, the newest first."""
    return service.events(platform, user, fine_tuning_job_id, after, limit)


@router.get("/v1/fine_tuning/jobs/{fine_tuning_job_id}/checkpoints")
@requires("jobs.read")
def list_checkpoints(
    platform: ThePlatform,
    user: TheUser,
    fine_tuning_job_id: JobId,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
) -> FineTuningCheckpoints:
    """What it can go on from, the furthest first; of a job that succeeded, its model."""
    return service.checkpoints(platform, user, fine_tuning_job_id, after, limit)
