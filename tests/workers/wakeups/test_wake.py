"""Hints through a real Redis: they may be lost, doubled or forged, and never decide anything."""

from __future__ import annotations

import base64
import json
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import redis
from sqlalchemy import text

from deploy.embedded.stack import EmbeddedServices
from jobspecs.lifecycle import JobState
from storage.database import Database
from tests.workers.harness import Harness
from workers.scheduler.relay import CelerySender, Relay, RelayFailed, drain
from workers.wakeups.celery_app import WAKE_TASK
from workers.wakeups.listener import HintListener


class Counter:
    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()

    def __call__(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait(self, count: int, seconds: float = 20.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, seconds), f"{self.count} of {count} hints"


@pytest.fixture
def heard(redis_url: str) -> Iterator[Counter]:
    counter = Counter()
    listener = HintListener("here", redis_url, counter)
    yield counter
    listener.stop()


@pytest.fixture
def send(redis_url: str) -> Iterator[CelerySender]:
    sender = CelerySender(redis_url)
    yield sender
    sender.close()


def forge(redis_url: str, task: str, body: bytes, content_type: str) -> None:
    """Puts a message into the host's queue, as somebody could who has Redis' password."""
    message_id = str(uuid4())
    message = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "binary" if content_type.endswith("serialize") else "utf-8",
        "content-type": content_type,
        "headers": {"lang": "py", "task": task, "id": message_id, "root_id": message_id, "argsrepr": "()"},
        "properties": {
            "correlation_id": message_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "host.here"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
        },
    }
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("host.here", json.dumps(message))


def test_a_hint_arrives_at_its_host_only(heard: Counter, send: CelerySender) -> None:
    send("elsewhere", str(uuid4()), 1)
    send("here", str(uuid4()), 1)
    heard.wait(1)
    assert heard.count == 1


def test_a_forged_task_and_a_pickle_are_refused_and_later_hints_still_arrive(
    heard: Counter, send: CelerySender, redis_url: str, tmp_path: Path
) -> None:
    marker = tmp_path / "executed"
    send("here", str(uuid4()), 1)
    heard.wait(1)
    arguments = json.dumps([["x"], {}, {}]).encode()
    # The forgery itself is sound: with the right name and plain JSON it is heard.
    forge(redis_url, WAKE_TASK, json.dumps([[str(uuid4()), 1], {}, {}]).encode(), "application/json")
    heard.wait(2)
    forge(redis_url, "os.system", arguments, "application/json")
    forge(redis_url, WAKE_TASK, pickle.dumps(_Bomb(marker)), "application/x-python-serialize")
    forge(redis_url, WAKE_TASK, json.dumps([["no uuid", "1; rm"], {}, {}]).encode(), "application/json")
    forge(redis_url, WAKE_TASK, b"not json", "application/json")
    send("here", str(uuid4()), 2)
    heard.wait(3)
    assert heard.count == 3
    assert not marker.exists()


class _Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self._marker,)


def test_hints_arrive_again_after_redis_was_killed_and_emptied(
    heard: Counter, send: CelerySender, services: EmbeddedServices, redis_url: str
) -> None:
    send("here", str(uuid4()), 1)
    heard.wait(1)
    services.redis.kill()
    with pytest.raises(RelayFailed):
        send("here", str(uuid4()), 1)
    services.redis.start()
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    _send_until_heard(send, heard, 2)


def test_a_receiver_that_starts_without_redis_finds_it_later(
    services: EmbeddedServices, redis_url: str, send: CelerySender
) -> None:
    services.redis.kill()
    counter = Counter()
    listener = HintListener("here", redis_url, counter)
    try:
        # Long enough to try in vain; nothing outside the process shows that it did.
        time.sleep(2)
        services.redis.start()
        _send_until_heard(send, counter, 1)
    finally:
        listener.stop()


def test_a_frozen_redis_costs_a_publish_a_few_seconds_and_no_more(
    services: EmbeddedServices, send: CelerySender, redis_url: str
) -> None:
    send("here", str(uuid4()), 1)
    services.redis.pause()
    try:
        began = time.monotonic()
        with pytest.raises(RelayFailed):
            send("here", str(uuid4()), 1)
        # Two timeouts, and far from a lease: no decision waits for it.
        assert time.monotonic() - began < 30
    finally:
        services.redis.resume()


def test_the_outbox_is_drained_in_order_and_what_fails_stays(database_url: str) -> None:
    database = Database(database_url)
    with database.unit_of_work() as work:
        for number in range(3):
            work.outbox.add("wake", {"host": "here", "job_id": str(UUID(int=number)), "fence": 1})
        work.outbox.add("schedule", {"job_id": str(UUID(int=9))})
    sent: list[str] = []

    def send_one(host: str, job_id: str, fence: int) -> None:
        if sent:
            raise RelayFailed("full")
        sent.append(job_id)

    with pytest.raises(RelayFailed):
        drain(database, send_one)
    with database.unit_of_work() as work:
        assert [row.payload["job_id"] for row in work.outbox.unsent()] == [str(UUID(int=1)), str(UUID(int=2))]
    sent.clear()
    with pytest.raises(RelayFailed):
        drain(database, send_one)
    sent.clear()
    assert drain(database, send_one) == 1
    database.close()


def test_a_wake_up_that_has_waited_for_minutes_is_dropped_by_the_databases_clock(database_url: str) -> None:
    database = Database(database_url)
    with database.unit_of_work() as work:
        for number in range(2):
            work.outbox.add("wake", {"host": "here", "job_id": str(UUID(int=number)), "fence": 1})
        work.session.flush()
        work.session.execute(text("UPDATE outbox SET created_at = created_at - interval '2 minutes' WHERE id = 1"))
        ages_s = [message.age_s for message in work.outbox.unsent()]
    assert ages_s[0] > 119
    assert 0 <= ages_s[1] < 60
    sent: list[str] = []
    assert drain(database, lambda host, job_id, fence: sent.append(job_id)) == 2
    assert sent == [str(UUID(int=1))]
    database.close()


def test_the_relay_goes_on_after_a_defect(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.scheduler.relay.PAUSE_S", 0.01)
    database = Database(database_url)
    with database.unit_of_work() as work:
        work.outbox.add("wake", {"host": "here", "job_id": str(UUID(int=1)), "fence": 1})
    sent = Counter()

    def send_one(host: str, job_id: str, fence: int) -> None:
        sent()
        if sent.count == 1:
            raise ValueError("a defect")

    relay = Relay(database, send_one)
    relay.poke()
    sent.wait(1)
    relay.poke()
    sent.wait(2)
    relay.stop()
    database.close()


def test_the_same_hint_a_hundred_times_starts_one_attempt(platform: Harness) -> None:
    job_id = platform.submit("steps")
    platform.wait(job_id, JobState.running)
    sender = CelerySender(platform.environment["EIGENWERK_REDIS_URL"])
    for _ in range(100):
        sender("one", str(job_id), 1)
    sender("one", str(uuid4()), 7)
    sender.close()
    platform.wait_for_step(job_id, 100)
    assert platform.attempts(job_id) == 1
    assert platform.child_pid(job_id)
    platform.cancel(job_id)
    platform.wait(job_id)


def _send_until_heard(send: CelerySender, heard: Counter, count: int) -> None:
    for _ in range(60):
        if heard.count >= count:
            return
        try:
            send("here", str(uuid4()), 1)
        except RelayFailed:
            time.sleep(0.5)
        time.sleep(0.5)
    raise AssertionError("no hint came through")
