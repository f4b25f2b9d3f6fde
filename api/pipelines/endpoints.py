"""/v1/pipelines."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import Body, Header, Query, Request, Response

from api.authentication import TheUser, guarded_router, requires
from api.documented import PIPELINE_BODY, of_type
from api.foreign_files import departing
from api.parts import ThePlatform
from api.pipelines import service
from api.pipelines.schemas import DeletedPipeline, PipelineDetail, PipelineForecast, PipelineList

router = guarded_router("pipelines")

Document = Annotated[dict[str, Any], Body(description="a pipeline")]


@router.post("/v1/pipelines", status_code=201, responses={200: {"model": PipelineDetail}}, openapi_extra=PIPELINE_BODY)
@requires("jobs.submit")
async def submit_pipeline(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    response: Response,
    document: Document,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255, pattern=r"^[!-~]+$")] = None,
) -> PipelineDetail:
    """Checks a pipeline as a whole and starts it. The same `Idempotency-Key` gives the earlier one with status 200."""
    async with departing(request) as gone:
        made = partial(service.submit, platform, user, document, idempotency_key, gone.is_set)
        pipeline, created = await platform.lookups.run(made)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/v1/pipelines/{pipeline.id}"
    return pipeline


@router.post("/v1/pipelines/check", openapi_extra=PIPELINE_BODY)
@requires("jobs.check")
async def check_pipeline(
    platform: ThePlatform, user: TheUser, request: Request, document: Document
) -> PipelineForecast:
    """Checks and estimates every step as a submission would, and queues nothing."""
    async with departing(request) as gone:
        return await platform.lookups.run(partial(service.check, platform, user, document, gone.is_set))


@router.get("/v1/pipelines")
@requires("jobs.read")
def list_pipelines(
    platform: ThePlatform,
    user: TheUser,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[int | None, Query(ge=1, lt=2**63, description="`next_before` of the page before")] = None,
    everybody: Annotated[bool, Query(alias="all", description="everybody's pipelines, for an administrator")] = False,
) -> PipelineList:
    """Your pipelines, newest first; an administrator may ask for everybody's."""
    return service.list_pipelines(platform, user, everybody=everybody, before=before, limit=limit)


@router.get("/v1/pipelines/{pipeline_id}")
@requires("jobs.read")
def get_pipeline(platform: ThePlatform, user: TheUser, pipeline_id: UUID) -> PipelineDetail:
    """One pipeline with its steps: their states and reasons, what conditions saw, and what was made."""
    return service.get(platform, user, pipeline_id)


@router.delete("/v1/pipelines/{pipeline_id}")
@requires("jobs.delete")
def delete_pipeline(platform: ThePlatform, user: TheUser, pipeline_id: UUID) -> DeletedPipeline:
    """Deletes a pipeline that has ended, with its history; its jobs and what they made stay. 409 while it goes on."""
    return service.delete(platform, user, pipeline_id)


@router.get("/v1/pipelines/{pipeline_id}/graph.svg", response_class=Response, responses={200: of_type("image/svg+xml")})
@requires("jobs.read")
def get_graph(platform: ThePlatform, user: TheUser, pipeline_id: UUID) -> Response:
    """The pipeline as a picture: which step waits for which, and the state of each."""
    picture = service.picture(platform, user, pipeline_id)
    return Response(picture, media_type="image/svg+xml", headers={"Content-Security-Policy": "sandbox"})


@router.post("/v1/pipelines/{pipeline_id}/cancel")
@requires("jobs.cancel")
def cancel_pipeline(platform: ThePlatform, user: TheUser, pipeline_id: UUID) -> PipelineDetail:
    """Begins nothing of it any more and asks what runs to stop; 409 when it has ended."""
    return service.cancel(platform, user, pipeline_id)


@router.post("/v1/pipelines/{pipeline_id}/retry")
@requires("jobs.retry")
def retry_pipeline(platform: ThePlatform, user: TheUser, pipeline_id: UUID) -> PipelineDetail:
    """Goes on from the steps that did not succeed; 409 when it has not ended, or has succeeded."""
    return service.retry(platform, user, pipeline_id)
