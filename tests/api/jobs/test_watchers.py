"""Many who watch at once: one look for all of them, and a bound that says so."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.errors import ApiError
from api.jobs import watchers
from api.jobs.looks import JobLooks
from jobspecs.events import LogEvent
from storage.repositories.jobs.events import EventRepository, Newest
from tests.api.conftest import Api
from tests.api.playing import give_back, record

STREAMS = 150


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[set[UUID]]]:
    """The jobs of each look at the database."""
    seen: list[set[UUID]] = []
    plain = EventRepository.newest_of

    def newest_of(self: EventRepository, job_ids: Collection[UUID]) -> dict[UUID, Newest]:
        seen.append({*job_ids})
        return plain(self, job_ids)

    monkeypatch.setattr(EventRepository, "newest_of", newest_of)
    yield seen


def test_a_thousand_watchers_are_one_look(ready: Api, asked: list[set[UUID]]) -> None:
    job = ready.submit()
    record(ready, job, [LogEvent(message=f"1/{n}") for n in range(1, 4)])
    give_back(ready, job)
    record(ready, job, [LogEvent(message="2/1")])
    quiet, gone = UUID(ready.submit()["id"]), uuid4()

    async def run() -> None:
        looks = JobLooks(ready.database, every_s=600)
        job_id = UUID(job["id"])
        found = await asyncio.gather(*(looks.newest(one) for one in [job_id, quiet, gone] * 333))
        assert found[:3] == [Newest(found[0].seq if found[0] else 0, 2, 1), Newest(1), None]
        assert await looks.newest(quiet) == Newest(1)
        assert asked == [{job_id, quiet, gone}]

    asyncio.run(run())


def open_stream(api: Api, stack: ExitStack, job: Any) -> Any:
    headers = {"Accept": "text/event-stream"}
    answer = stack.enter_context(api.client.stream("GET", f"/v1/jobs/{job['id']}/events", headers=headers))
    return answer, answer.iter_lines() if answer.is_success else iter(())


def test_one_stream_too_many_is_refused_with_the_reason(ready: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    job = ready.submit()
    with ExitStack() as stack:
        _, lines = open_stream(ready, stack, job)
        assert next(lines)
        monkeypatch.setattr(watchers, "USER_STREAMS_MAX", 1)
        refused = ready.client.get(f"/v1/jobs/{job['id']}/events", headers={"Accept": "text/event-stream"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_streams")
        monkeypatch.setattr(watchers, "USER_STREAMS_MAX", 1000)
        monkeypatch.setattr(watchers, "STREAMS_MAX", 1)
        refused = ready.client.get(f"/v1/jobs/{job['id']}/events", headers={"Accept": "text/event-stream"})
        assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (503, True)
        assert ready.client.get(f"/v1/jobs/{job['id']}/events?stream=false").status_code == 200


def test_everybody_else_is_answered_while_many_watch_and_all_of_them_hear_the_end(ready: Api) -> None:
    job = ready.submit()

    async def run() -> None:
        address = (ready.url.partition("//")[2].partition(":")[0], int(ready.url.rpartition(":")[2]))
        head = f"Host: {address[0]}\r\nAuthorization: {ready.client.headers['Authorization']}\r\n"
        request = f"GET /v1/jobs/{job['id']}/events HTTP/1.1\r\n{head}Accept: text/event-stream\r\n\r\n".encode()
        streams = []
        for _ in range(STREAMS):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(request)
            streams.append((reader, writer))
        for reader, _ in streams:
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(b"event: state")
        assert await asyncio.to_thread(lambda: ready.client.get("/v1/users/me").status_code) == 200
        ended = await asyncio.to_thread(ready.client.post, f"/v1/jobs/{job['id']}/cancel")
        assert ended.status_code == 200
        for reader, _ in streams:
            await asyncio.wait_for(reader.readuntil(b"event: end"), 120)
        for _, writer in streams:
            writer.close()

    asyncio.run(run())


def test_the_more_watch_the_longer_each_waits_between_two_looks() -> None:
    many = watchers.Watchers()
    user = uuid4()
    with ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(many.one(user))
        assert many.patience == 5
        with pytest.raises(ApiError):
            many.check(user)
        many.check(uuid4())
    assert many.patience == 1
