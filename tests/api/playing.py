"""Plays the worker: what the API only ever reads is written straight into the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from jobspecs.events import ChildEvent, RecordedEvent
from jobspecs.lifecycle import JobState, Reason
from jobspecs.manifest import Manifest
from tests.api.conftest import Api

HOST = "host-1"


def start(api: Api, job: Any) -> int:
    """Takes the job to `running`; returns the fence."""
    job_id = UUID(job["id"])
    with api.database.unit_of_work() as work:
        row = work.jobs.assign(job_id, HOST, lease_s=60)
        assert row is not None
        for state in (JobState.preparing, JobState.running):
            assert work.jobs.transition(job_id, state, actor=f"host:{HOST}", fence=row.fence)
        return row.fence


def recorded(events: Sequence[ChildEvent], fence: int = 1, first: int = 1) -> list[RecordedEvent]:
    return [
        RecordedEvent(fence=fence, number=number, at=datetime.now(UTC), event=event)
        for number, event in enumerate(events, start=first)
    ]


def store(api: Api, job: Any, events: Sequence[RecordedEvent]) -> None:
    """Writes events to PostgreSQL."""
    with api.database.unit_of_work() as work:
        assert work.events.add(UUID(job["id"]), events[0].fence, events)


def record(api: Api, job: Any, events: Sequence[ChildEvent]) -> None:
    """Starts the job and lets its child say something."""
    store(api, job, recorded(events, start(api, job)))


def give_back(api: Api, job: Any, reason: Reason = Reason.worker_stopped) -> None:
    """The attempt ends without a result."""
    with api.database.unit_of_work() as work:
        assert work.jobs.end_attempt(UUID(job["id"]), reason=reason, message="as a test asks", actor=f"host:{HOST}")


def finish(api: Api, job: Any, manifest: Manifest, prefix: str = "artifacts/test/1") -> None:
    """Commits the result of a running job."""
    job_id = UUID(job["id"])
    with api.database.unit_of_work() as work:
        row = work.jobs.transition(job_id, JobState.uploading, actor=f"host:{HOST}")
        assert row is not None
        assert work.jobs.transition(job_id, JobState.succeeded, actor=f"host:{HOST}")
        work.models.add_version(
            row.owner_id, row.name, manifest=manifest, prefix=prefix, job_id=job_id, fence=row.fence
        )
