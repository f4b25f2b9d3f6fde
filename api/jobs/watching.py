"""/v1/jobs/{id}/events: a job's history and what happens next, as server-sent events or as pages of JSON."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.authentication import TheUser, guarded_router, requires
from api.documented import EVENTS
from api.errors import ApiError
from api.jobs.cursors import Happening, Position, parse_cursor
from api.jobs.following import PAGE_EVENTS, Follower, read_page
from api.jobs.schemas import EventItem, EventPage
from api.parts import Parts, ThePlatform
from api.streaming import KEEP_ALIVE, event_stream, server_event
from jobspecs.events import StateChange
from jobspecs.rights import Principal

router = guarded_router("jobs")


@router.get(
    "/v1/jobs/{job_id}/events",
    response_model=EventPage,
    responses={200: EVENTS},
)
@requires("jobs.read")
async def get_events(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    job_id: UUID,
    last_event_id: Annotated[str | None, Header(description="the id of the last event that you have")] = None,
    after: Annotated[str | None, Query(description="the same, when there is no header")] = None,
    stream: Annotated[bool | None, Query(description="false: one page as JSON")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="events on a page of JSON")] = PAGE_EVENTS,
) -> EventPage | Response:
    """Server-sent events: `state` for state changes, a child's events by their type, and `end` at last."""
    position = parse_cursor(last_event_id or after)
    if position is None:
        raise ApiError(422, "This is no cursor: use the id of an event.", param="Last-Event-ID")
    if stream is False or (stream is None and "application/json" in request.headers.get("accept", "")):
        page = await run_in_threadpool(read_page, platform, user, job_id, position, limit)
        return _page(position, page.happenings, page.has_more, page.ended is not None)
    # The first look answers 404 and 503 as such, before the stream begins.
    await run_in_threadpool(read_page, platform, user, job_id, position, 1)
    platform.watchers.check(user.user_id)
    follower = Follower(platform, user, job_id, position)
    return event_stream(_events(platform, user, follower))


async def _events(platform: Parts, user: Principal, follower: Follower) -> AsyncIterator[bytes]:
    with platform.watchers.one(user.user_id):
        sent_at_s = time.monotonic()
        async for told in follower.follow():
            if told.happening is not None:
                kind, data = _described(told.happening)
                yield server_event(kind, str(told.position), data)
            elif time.monotonic() - sent_at_s >= platform.settings.keep_alive_s:
                yield KEEP_ALIVE
            else:
                continue
            sent_at_s = time.monotonic()
    if follower.ended is not None:
        yield server_event("end", str(follower.position), follower.ended.model_dump(mode="json"))


def _described(happening: Happening) -> tuple[str, dict[str, Any]]:
    """The event's type, and its fields with place and time."""
    if isinstance(happening, StateChange):
        return happening.type, happening.model_dump(mode="json")
    recorded = happening.model_dump(mode="json")
    fields = recorded.pop("event")
    return happening.event.type, {**fields, **recorded}


def _page(position: Position, happenings: Any, has_more: bool, ended: bool) -> EventPage:
    data = []
    for happening in happenings:
        position = position.after(happening)
        kind, fields = _described(happening)
        data.append(EventItem(id=str(position), type=kind, data=fields))
    return EventPage(data=data, has_more=has_more, cursor=str(position), ended=ended)
