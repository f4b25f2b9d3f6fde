"""/v1/pipelines/{id}/events: a pipeline's history and what happens next, as server-sent events or as pages of JSON.

Both come from PostgreSQL: changes of states from the history, each once, and how far jobs of running steps are. That is
no history; it is told as it is at each look, when it has changed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.authentication import TheUser, guarded_router, requires
from api.documented import EVENTS
from api.parts import Parts, ThePlatform
from api.pipelines.presenting import progress_of
from api.pipelines.schemas import PipelineEvent, PipelineEventData, PipelineEventPage
from api.pipelines.service import found
from api.streaming import KEEP_ALIVE, event_stream, server_event
from jobspecs.events import ProgressEvent
from jobspecs.pipelines.lifecycle import ENDED, PipelineState, StepState
from jobspecs.rights import Principal
from storage.database import DatabaseUnavailable
from storage.tables import PipelineEventRow

log = logging.getLogger(__name__)

router = guarded_router("pipelines")

_PAGE_EVENTS = 500
Cursor = Annotated[int | None, Query(ge=0, lt=2**63, description="the id of the last event that you have")]


@dataclass(frozen=True)
class _Page:
    """`ended`: the state that it ended in, once everything before that was read. `progress`: of running steps."""

    events: list[PipelineEvent]
    has_more: bool
    ended: PipelineState | None
    progress: dict[str, ProgressEvent]


@router.get("/v1/pipelines/{pipeline_id}/events", response_model=PipelineEventPage, responses={200: EVENTS})
@requires("jobs.read")
async def get_events(
    platform: ThePlatform,
    user: TheUser,
    request: Request,
    pipeline_id: UUID,
    last_event_id: Annotated[int | None, Header(ge=0, lt=2**63, description="the same, as browsers send it")] = None,
    after: Cursor = None,
    stream: Annotated[bool | None, Query(description="false: one page as JSON")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="events on a page of JSON")] = _PAGE_EVENTS,
) -> PipelineEventPage | Response:
    """Server-sent events: `state` of the pipeline, `step` for each change of a step, `progress`, and `end` at last."""
    position = last_event_id or after or 0
    # Also the first look of a stream, which answers 404 and 503 as such.
    page = await run_in_threadpool(_read, platform, user, pipeline_id, position, limit)
    if stream is False or (stream is None and "application/json" in request.headers.get("accept", "")):
        cursor = page.events[-1].id if page.events else str(position)
        return PipelineEventPage(data=page.events, has_more=page.has_more, cursor=cursor, ended=page.ended is not None)
    platform.watchers.check(user.user_id)
    return event_stream(_events(platform, user, pipeline_id, position))


def _read(parts: Parts, user: Principal, pipeline_id: UUID, position: int, limit: int) -> _Page:
    with parts.database.unit_of_work() as work:
        # In this order: what was written before it ended is then in what is read next.
        row = found(work, user.reach("jobs.read"), pipeline_id)
        rows = work.pipelines.events_after(pipeline_id, position, limit=limit + 1)
        steps = [step for step in work.pipelines.steps(pipeline_id) if step.state == StepState.running]
        jobs = work.pipelines.jobs_of(steps)
        known = {step.name: progress_of(work, jobs.get(step.job_id)) for step in steps if step.job_id is not None}
        has_more, state = len(rows) > limit, PipelineState(row.state)
        return _Page(
            events=[_event(event) for event in rows[:limit]],
            has_more=has_more,
            ended=state if state in ENDED and not has_more else None,
            progress={name: progress for name, progress in known.items() if progress is not None},
        )


async def _events(parts: Parts, user: Principal, pipeline_id: UUID, position: int) -> AsyncIterator[bytes]:
    """Returns when the pipeline has ended, or the process shall: the watcher comes back with its cursor then."""
    with parts.watchers.one(user.user_id):
        told: dict[str, ProgressEvent] = {}
        sent_at_s = time.monotonic()
        while not parts.stopping.is_set():
            try:
                page = await run_in_threadpool(partial(_read, parts, user, pipeline_id, position, _PAGE_EVENTS))
            except DatabaseUnavailable as error:
                log.warning("a watcher of pipeline %s waits for the database: %s", pipeline_id, error)
                await asyncio.sleep(parts.settings.watch_poll_s)
                continue
            position = int(page.events[-1].id) if page.events else position
            sent = _sent(page, str(position), told)
            told = page.progress
            if not sent and time.monotonic() - sent_at_s >= parts.settings.keep_alive_s:
                sent = KEEP_ALIVE
            if sent:
                sent_at_s = time.monotonic()
                yield sent
            if page.ended is not None:
                return
            if not page.has_more:
                await asyncio.sleep(parts.settings.watch_poll_s * parts.watchers.patience)


def _sent(page: _Page, cursor: str, told: Mapping[str, ProgressEvent]) -> bytes:
    """What the page says, with `cursor` behind its last event. `told`: how far running steps were before."""
    parts = [server_event(event.type, event.id, event.data.model_dump(mode="json")) for event in page.events]
    further = {name: progress for name, progress in page.progress.items() if told.get(name) != progress}
    parts += [server_event("progress", cursor, {"step": name, **_figures(one)}) for name, one in further.items()]
    if page.ended is not None:
        parts.append(server_event("end", cursor, {"state": page.ended.value}))
    return b"".join(parts)


def _figures(progress: ProgressEvent) -> dict[str, object]:
    """Beside the name of the pipeline's step, which `step` is here."""
    fields = progress.model_dump(mode="json")
    return {"steps_done": fields.pop("step"), **fields}


def _event(row: PipelineEventRow) -> PipelineEvent:
    data = PipelineEventData.model_validate(row, from_attributes=True)
    return PipelineEvent(id=str(row.seq), type="state" if row.step is None else "step", data=data)
