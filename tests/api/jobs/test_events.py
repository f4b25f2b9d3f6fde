from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
import redis
from psycopg import sql

from api.jobs import following
from deploy.embedded.stack import EmbeddedServices
from jobspecs.events import LogEvent, ProgressEvent, RecordedEvent
from jobspecs.manifest import Manifest
from storage.progress import ProgressPublisher, stream_name
from tests.api.conftest import Api, RunApi
from tests.api.playing import finish, give_back, record, recorded, start, store

#: Seconds after which a test gives up on an event.
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Event:
    id: str
    type: str
    data: dict[str, Any]

    @property
    def what(self) -> Any:
        return self.data["state"] if self.type in ("state", "end") else self.data.get("message")


def parse(lines: Iterator[str]) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Event(fields["id"], fields["event"], json.loads(fields["data"]))
            fields = {}


@contextmanager
def watch(client: httpx.Client, job: Any, after: str | None = None) -> Iterator[Iterator[Event]]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
    with client.stream("GET", f"/v1/jobs/{job['id']}/events", headers=headers, timeout=PATIENCE_S) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        yield parse(answer.iter_lines())


def watched(client: httpx.Client, job: Any, after: str | None = None) -> list[Event]:
    with watch(client, job, after) as events:
        return list(events)


def lines(*numbers: int, fence: int = 1) -> list[RecordedEvent]:
    return [event for n in numbers for event in recorded([LogEvent(message=f"{fence}/{n}")], fence, n)]


@pytest.fixture
def publish(services: EmbeddedServices) -> Iterator[Callable[[Any, list[RecordedEvent]], None]]:
    """Puts events into Redis, as a worker does."""
    publisher = ProgressPublisher(services.redis_url)

    def call(job: Any, events: list[RecordedEvent]) -> None:
        assert publisher.publish(UUID(job["id"]), events)

    yield call
    publisher.close()


def ended_job_with_two_attempts(api: Api) -> Any:
    job = api.submit()
    record(api, job, [LogEvent(message=f"1/{n}") for n in range(1, 4)])
    give_back(api, job)
    record(api, job, [LogEvent(message=f"2/{n}") for n in range(1, 4)])
    finish(api, job, Manifest(artifact="model", files=()))
    return job


def test_a_finished_job_is_told_whole_and_ends(ready: Api) -> None:
    told = watched(ready.client, ended_job_with_two_attempts(ready))
    assert [event.what for event in told if event.type == "log"] == ["1/1", "1/2", "1/3", "2/1", "2/2", "2/3"]
    assert [event.what for event in told if event.type == "state"] == [
        *("queued", "assigned", "preparing", "running", "queued"),
        *("assigned", "preparing", "running", "uploading", "succeeded"),
    ]
    assert (told[-1].type, told[-1].what) == ("end", "succeeded")


def test_a_watcher_that_comes_back_at_any_point_misses_nothing_and_gets_nothing_twice(ready: Api) -> None:
    job = ended_job_with_two_attempts(ready)
    told = watched(ready.client, job)
    for number, event in enumerate(told[:-1]):
        assert watched(ready.client, job, after=event.id) == told[number + 1 :]


def test_a_page_of_json_says_the_same_and_continues_behind_its_cursor(ready: Api) -> None:
    job = ended_job_with_two_attempts(ready)
    told = watched(ready.client, job)
    pages, cursor, ended = [], "", False
    while not ended:
        page = ready.client.get(
            f"/v1/jobs/{job['id']}/events", params={"stream": "false", "limit": 2, "after": cursor}
        ).json()
        pages += [Event(item["id"], item["type"], item["data"]) for item in page["data"]]
        cursor, ended = page["cursor"], page["ended"]
    assert pages == told[:-1]


def test_events_come_live_from_redis_before_postgresql_has_them(ready: Api, publish: Any) -> None:
    job = ready.submit()
    start(ready, job)
    with watch(ready.client, job) as events:
        publish(job, lines(1, 2))
        seen = [next(events) for _ in range(6)]
        assert [event.what for event in seen[4:]] == ["1/1", "1/2"]
        store(ready, job, lines(1, 2, 3))
        publish(job, lines(3))
        finish(ready, job, Manifest(artifact="model", files=()))
        assert [event.what for event in events if event.type == "log"] == ["1/3"]


def test_events_that_redis_lost_come_from_postgresql(ready: Api, publish: Any, services: EmbeddedServices) -> None:
    job = ready.submit()
    start(ready, job)
    with watch(ready.client, job) as events:
        publish(job, lines(1))
        assert [next(events).what for _ in range(5)][-1] == "1/1"
        with redis.Redis.from_url(services.redis_url) as client:
            client.delete(stream_name(UUID(job["id"])))
        publish(job, lines(5))
        store(ready, job, lines(1, 2, 3, 4))
        assert [next(events).what for _ in range(4)] == ["1/2", "1/3", "1/4", "1/5"]


def test_a_gap_is_not_passed_over_while_the_database_is_away(
    ready: Api, publish: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job = ready.submit()
    start(ready, job)
    with watch(ready.client, job) as events:
        publish(job, lines(1))
        assert [next(events).what for _ in range(5)][-1] == "1/1"
        monkeypatch.setattr(following, "_GAP_PATIENCE_S", 0.3)
        with database_away(ready):
            publish(job, lines(5))
            # Each look takes 0.2 s at least: the patience is over several times.
            assert until(lambda: caplog.text.count("waits for the database") >= 6)
            monkeypatch.setattr(following, "_GAP_PATIENCE_S", PATIENCE_S)
        store(ready, job, lines(2, 3, 4))
        assert [next(events).what for _ in range(4)] == ["1/2", "1/3", "1/4", "1/5"]


@contextmanager
def database_away(api: Api) -> Iterator[None]:
    """PostgreSQL ends the connections to the API's database and takes no new ones."""
    server, _, name = api.settings.storage.database_url.replace("+psycopg", "").rpartition("/")
    database = sql.Identifier(name)
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(database))
        try:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            yield
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(database))


def test_events_that_never_reached_redis_come_from_postgresql(ready: Api) -> None:
    job = ready.submit()
    start(ready, job)
    with watch(ready.client, job) as events:
        assert [next(events).what for _ in range(4)][-1] == "running"
        store(ready, job, lines(1, 2))
        assert [next(events).what for _ in range(2)] == ["1/1", "1/2"]


def test_a_second_attempt_goes_on_after_the_whole_first(ready: Api, publish: Any) -> None:
    job = ready.submit()
    start(ready, job)
    with watch(ready.client, job) as events:
        publish(job, lines(1))
        store(ready, job, lines(1, 2))
        give_back(ready, job)
        start(ready, job)
        publish(job, lines(1, 2, fence=2))
        store(ready, job, lines(1, 2, fence=2))
        finish(ready, job, Manifest(artifact="model", files=()))
        assert [event.what for event in events if event.type == "log"] == ["1/1", "1/2", "2/1", "2/2"]


def test_without_redis_a_watcher_reads_postgresql(run_api: RunApi, ready: Api) -> None:
    away = replace(ready.settings.storage, redis_url="redis://127.0.0.1:1/0")
    token = ready.client.post("/v1/users/me/tokens", json={"scopes": ["read"]}).json()["token"]
    job = ready.submit()
    with run_api(storage=away) as other, other.as_user(token) as client, watch(client, job) as events:
        assert next(events).what == "queued"
        record(ready, job, [ProgressEvent(stage="train", step=1, steps_total=2)])
        assert [next(events).type for _ in range(4)] == ["state", "state", "state", "progress"]
        ready.client.post(f"/v1/jobs/{job['id']}/cancel")
        assert next(events).what == "cancelling"
        give_back(ready, job)
        assert [(event.type, event.what) for event in events] == [("state", "cancelled"), ("end", "cancelled")]


def test_a_quiet_stream_is_kept_open_by_comments(run_api: RunApi, ready: Api) -> None:
    token = ready.client.post("/v1/users/me/tokens", json={"scopes": ["read"]}).json()["token"]
    job = ready.submit()
    with (
        run_api(keep_alive_s=0.1) as other,
        other.as_user(token) as client,
        client.stream("GET", f"/v1/jobs/{job['id']}/events") as answer,
    ):
        comments = (line for line in answer.iter_lines() if line.startswith(":"))
        assert [next(comments), next(comments)] == [": keep-alive", ": keep-alive"]


def test_a_client_that_leaves_costs_nothing(ready: Api, services: EmbeddedServices) -> None:
    job = ready.submit()
    with watch(ready.client, job) as events:
        assert next(events).what == "queued"
        assert until(lambda: reads(services) == 1)
    # Several looks: between two reads of a watcher that is still there is none either.
    assert until(lambda: not any(reads(services, after_s=0.05) for _ in range(10)))


def reads(services: EmbeddedServices, after_s: float = 0.0) -> int:
    """Connections that wait in Redis for an event."""
    time.sleep(after_s)
    with redis.Redis.from_url(services.redis_url) as client:
        return sum("b" in entry["flags"] and entry["cmd"].startswith("xread") for entry in client.client_list())


def until(condition: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        if condition():
            return True
    return False


def test_a_wrong_cursor_and_an_unknown_job_are_answered_before_the_stream(ready: Api) -> None:
    job = ready.submit()
    headers = {"Last-Event-ID": "yesterday"}
    assert ready.client.get(f"/v1/jobs/{job['id']}/events", headers=headers).status_code == 422
    assert ready.client.get(f"/v1/jobs/{UUID(int=1)}/events").status_code == 404
