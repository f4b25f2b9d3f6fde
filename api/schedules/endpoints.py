"""/v1/schedules."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import Path, Request, Response

from api.authentication import TheUser, guarded_router, requires
from api.foreign_files import departing
from api.parts import ThePlatform
from api.schedules import service
from api.schedules.schemas import ScheduleDetail, ScheduleList, ScheduleRequest
from jobspecs.references import NAME_PATTERN

router = guarded_router("schedules")

Name = Annotated[str, Path(pattern=f"^{NAME_PATTERN}$")]


@router.post("/v1/schedules", status_code=201)
@requires("schedules.write")
async def create_schedule(
    platform: ThePlatform, user: TheUser, request: Request, body: ScheduleRequest
) -> ScheduleDetail:
    """Checks the spec as if it were submitted now, and submits it at each time from now on."""
    async with departing(request) as gone:
        return await platform.lookups.run(partial(service.create, platform, user, body, gone.is_set))


@router.get("/v1/schedules")
@requires("schedules.read")
def list_schedules(platform: ThePlatform, user: TheUser) -> ScheduleList:
    """Your schedules, by name, each with its next five times."""
    return service.list_schedules(platform, user)


@router.get("/v1/schedules/{name}")
@requires("schedules.read")
def get_schedule(platform: ThePlatform, user: TheUser, name: Name) -> ScheduleDetail:
    """One schedule, its next five times, and what came of the last ones."""
    return service.get(platform, user, name)


@router.post("/v1/schedules/{name}/pause")
@requires("schedules.write")
def pause_schedule(platform: ThePlatform, user: TheUser, name: Name) -> ScheduleDetail:
    """Submits nothing until it is resumed; what was submitted goes on."""
    return service.pause(platform, user, name)


@router.post("/v1/schedules/{name}/resume")
@requires("schedules.write")
def resume_schedule(platform: ThePlatform, user: TheUser, name: Name) -> ScheduleDetail:
    """Goes on with the next time from now; those that came while it was paused are not made up for."""
    return service.resume(platform, user, name)


@router.delete("/v1/schedules/{name}", status_code=204)
@requires("schedules.write")
def delete_schedule(platform: ThePlatform, user: TheUser, name: Name) -> Response:
    """Deletes the schedule; what it has submitted stays."""
    service.delete(platform, user, name)
    return Response(status_code=204)
