"""/v1/sweeps."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import Body, Header, Query, Request, Response

from api.authentication import TheUser, guarded_router, requires
from api.documented import SWEEP_BODY, of_type
from api.foreign_files import departing
from api.parts import ThePlatform
from api.sweeps import service
from api.sweeps.schemas import SweepDetail, SweepForecast, SweepList

router = guarded_router("sweeps")

Document = Annotated[dict[str, Any], Body(description="a sweep")]


@router.post("/v1/sweeps", status_code=201, responses={200: {"model": SweepDetail}}, openapi_extra=SWEEP_BODY)
@requires("jobs.submit")
async def submit_sweep(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    response: Response,
    document: Document,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255, pattern=r"^[!-~]+$")] = None,
) -> SweepDetail:
    """Checks a sweep as a whole and starts it. The same `Idempotency-Key` gives the earlier one with status 200."""
    async with departing(request) as gone:
        made = partial(service.submit, platform, user, document, idempotency_key, gone.is_set)
        sweep, created = await platform.lookups.run(made)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/v1/sweeps/{sweep.id}"
    return sweep


@router.post("/v1/sweeps/check", openapi_extra=SWEEP_BODY)
@requires("jobs.check")
async def check_sweep(platform: ThePlatform, user: TheUser, request: Request, document: Document) -> SweepForecast:
    """Checks and estimates a sweep as a submission would, and queues nothing."""
    async with departing(request) as gone:
        return await platform.lookups.run(partial(service.check, platform, user, document, gone.is_set))


@router.get("/v1/sweeps")
@requires("jobs.read")
def list_sweeps(
    platform: ThePlatform,
    user: TheUser,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[int | None, Query(ge=1, lt=2**63, description="`next_before` of the page before")] = None,
    everybody: Annotated[bool, Query(alias="all", description="everybody's sweeps, for an administrator")] = False,
) -> SweepList:
    """Your sweeps, newest first; an administrator may ask for everybody's."""
    return service.list_sweeps(platform, user, everybody=everybody, before=before, limit=limit)


@router.get("/v1/sweeps/{sweep_id}")
@requires("jobs.read")
def get_sweep(platform: ThePlatform, user: TheUser, sweep_id: UUID) -> SweepDetail:
    """One sweep with its leaderboard: each trial's values, figure and interval, and what confirmed the winner."""
    return service.get(platform, user, sweep_id)


@router.get("/v1/sweeps/{sweep_id}/curve.svg", response_class=Response, responses={200: of_type("image/svg+xml")})
@requires("jobs.read")
def get_curve(platform: ThePlatform, user: TheUser, sweep_id: UUID) -> Response:
    """The figures of the trials in the order in which they began, and the best so far, as a picture."""
    picture = service.picture(platform, user, sweep_id)
    return Response(picture, media_type="image/svg+xml", headers={"Content-Security-Policy": "sandbox"})


@router.post("/v1/sweeps/{sweep_id}/cancel")
@requires("jobs.cancel")
def cancel_sweep(platform: ThePlatform, user: TheUser, sweep_id: UUID) -> SweepDetail:
    """Begins nothing of it any more and asks what runs to stop; 409 when it has ended."""
    return service.cancel(platform, user, sweep_id)
