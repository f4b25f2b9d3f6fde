"""Events become deliveries in the transaction that made them; each arrives at least once, signed, with one id."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

import openai
import pytest
import redis
from sqlalchemy import text

from jobspecs.addresses import AddressRules
from jobspecs.lifecycle import JobState, Reason
from jobspecs.webhooks import SECRET_PREFIX, EventType
from storage.database import Database
from storage.repositories.deliveries import Claimed
from storage.secret_box import SecretBox
from storage.tables import WebhookDeliveryRow, WebhookRow
from tests.workers.errands.receiver import Receiver
from tests.workers.harness import Harness
from workers.errands.delivering import Errands, deliver
from workers.errands.sending import Sender

SECRET = SECRET_PREFIX + "c2VjcmV0IG9mIHRoaXJ0eS10d28gYnl0ZXMgb2YgdGVzdHM="
KEY = "a" * 43
BOX = SecretBox(KEY)
SENDER = Sender(AddressRules.parse("127.0.0.1"), answer_s=5.0)


def make_webhook(database: Database, url: str, *events: EventType, owner: str = "tester") -> UUID:
    with database.unit_of_work() as work:
        owner_id = work.users.ensure(owner).id
        row = work.webhooks.add(
            owner_id,
            name="chat",
            url=url,
            event_types=[str(event) for event in events or (EventType.job_succeeded,)],
            secret=SECRET,
            sealed_secret=BOX.seal(owner_id, SECRET),
        )
    return row.id


def submit(database: Database, kind: str = "train-classifier", owner: str = "tester") -> UUID:
    with database.unit_of_work() as work:
        row, _ = work.jobs.submit(
            work.users.ensure(owner).id,
            actor=f"user:{owner}",
            spec={"kind": kind, "name": "mine", "priority": 0},
            inputs={},
            slots=1,
            memory_bytes=1,
            gpus=0,
            max_runtime_s=1.0,
            request_sha256="0",
        )
    return row.id


def cancel(database: Database, job_id: UUID) -> None:
    with database.unit_of_work() as work:
        assert work.jobs.request_cancel(job_id, actor="user:tester") is not None


def deliveries(database: Database, webhook_id: UUID) -> list[WebhookDeliveryRow]:
    with database.unit_of_work() as work:
        return list(reversed(work.deliveries.list(webhook_id, limit=100)))


def webhook(database: Database, webhook_id: UUID) -> WebhookRow:
    with database.unit_of_work() as work:
        return work.session.get_one(WebhookRow, webhook_id)


def claim(database: Database, lease_s: float = 60.0) -> Claimed | None:
    with database.unit_of_work() as work:
        return work.deliveries.claim(lease_s=lease_s)


def make_due(database: Database) -> None:
    """Lets back-offs and claims pass."""
    with database.unit_of_work() as work:
        work.session.execute(text("UPDATE webhook_deliveries SET next_attempt_at = clock_timestamp()"))
        work.session.execute(text("UPDATE webhooks SET busy_until = NULL"))


def attempt(database: Database) -> None:
    make_due(database)
    claimed = claim(database)
    assert claimed is not None
    deliver(database, SENDER, BOX, claimed)


@contextmanager
def sending(database: Database, poll_s: float = 0.05) -> Iterator[Errands]:
    errands = Errands(database, SENDER, BOX, poll_s=poll_s)
    thread = threading.Thread(target=errands.run, args=(lambda: None,))
    thread.start()
    try:
        yield errands
    finally:
        errands.end()
        thread.join(20)
        assert not thread.is_alive()


def test_openais_client_verifies_what_is_sent(database: Database, receiver: Receiver) -> None:
    events = (EventType.fine_tuning_cancelled, EventType.job_cancelled)
    hook = make_webhook(database, receiver.url(), *events)
    job_id = submit(database, kind="finetune-llm")
    cancel(database, job_id)
    with sending(database):
        receiver.wait(2)
    client = openai.OpenAI(api_key="none", webhook_secret=SECRET)
    told = {}
    for request in receiver.requests:
        event = client.webhooks.unwrap(request.body, request.headers)
        told[event.type] = event
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(request.body + b" ", request.headers)
    assert set(told) == {"fine_tuning.job.cancelled", "job.cancelled"}
    assert told["fine_tuning.job.cancelled"].data.id == str(job_id)  # type: ignore[union-attr]
    done = deliveries(database, hook)
    assert [row.state for row in done] == ["delivered", "delivered"]
    assert {f"evt_{row.id.hex}" for row in done} == {request.headers["webhook-id"] for request in receiver.requests}


def test_while_secrets_change_both_verify_what_is_sent_and_then_the_new_one_alone(
    database: Database, receiver: Receiver
) -> None:
    hook = make_webhook(database, receiver.url(), EventType.job_cancelled)
    newer = SECRET_PREFIX + base64.b64encode(b"n" * 32).decode()
    with database.unit_of_work() as work:
        row = work.session.get_one(WebhookRow, hook)
        sealed = BOX.seal(row.owner_id, newer)
        work.webhooks.rotate(row, secret=newer, sealed_secret=sealed, keep_for=timedelta(hours=1))
    cancel(database, submit(database))
    attempt(database)
    with database.unit_of_work() as work:
        work.session.execute(text("UPDATE webhooks SET previous_until = clock_timestamp()"))
    cancel(database, submit(database))
    attempt(database)
    during, after = receiver.requests
    verifying = {secret: openai.OpenAI(api_key="none", webhook_secret=secret).webhooks for secret in (SECRET, newer)}
    for request, secret in ((during, SECRET), (during, newer), (after, newer)):
        verifying[secret].unwrap(request.body, request.headers)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        verifying[SECRET].unwrap(after.body, after.headers)


def test_the_event_that_waits_longest_is_sent_first_whatever_else_waits_for_another(
    database: Database, receiver: Receiver
) -> None:
    make_webhook(database, receiver.url(), EventType.job_cancelled)
    other = make_webhook(database, receiver.url(), EventType.job_cancelled, owner="somebody")
    cancel(database, submit(database))
    cancel(database, submit(database, owner="somebody"))
    with database.unit_of_work() as work:
        older = text(
            "UPDATE webhook_deliveries SET next_attempt_at = next_attempt_at - interval '1 h' WHERE webhook_id = :id"
        )
        work.session.execute(older, {"id": other})
    claimed = claim(database)
    assert claimed is not None and claimed.webhook_id == other


def test_events_go_to_those_who_own_the_thing_and_want_them(database: Database, receiver: Receiver) -> None:
    wanted = make_webhook(database, receiver.url(), EventType.job_cancelled)
    others = make_webhook(database, receiver.url(), EventType.job_cancelled, owner="somebody")
    unwanted = make_webhook(database, receiver.url(), EventType.job_failed)
    cancel(database, submit(database))
    (told,) = deliveries(database, wanted)
    data = json.loads(told.body)["data"]
    assert (data["object"], data["kind"], data["state"]) == ("job", "train-classifier", "cancelled")
    assert data["reason"] == Reason.cancelled_by_user
    assert deliveries(database, others) == deliveries(database, unwanted) == []


def test_what_is_rolled_back_tells_nobody(database: Database, receiver: Receiver) -> None:
    hook = make_webhook(database, receiver.url(), EventType.job_cancelled)
    job_id = submit(database)
    with pytest.raises(ZeroDivisionError), database.unit_of_work() as work:
        work.jobs.transition(job_id, JobState.cancelled, actor="test", reason=Reason.cancelled_by_user)
        raise ZeroDivisionError
    assert deliveries(database, hook) == []


def test_who_dies_between_sending_and_marking_leaves_it_to_be_sent_again_with_the_same_id(
    database: Database, receiver: Receiver
) -> None:
    hook = make_webhook(database, receiver.url(), EventType.job_cancelled)
    cancel(database, submit(database))
    dead = claim(database)
    assert dead is not None
    assert SENDER.post(dead.url, {"webhook-id": dead.message_id}, dead.body.encode()).delivered
    assert claim(database) is None, "the claim still holds"
    attempt(database)
    first, second = receiver.requests
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    (row,) = deliveries(database, hook)
    assert (row.state, row.attempts) == ("delivered", 2)


def test_who_was_thought_dead_writes_nothing_over_the_next_attempt(database: Database, receiver: Receiver) -> None:
    hook = make_webhook(database, receiver.url("/500"), EventType.job_cancelled)
    cancel(database, submit(database))
    slow = claim(database)
    assert slow is not None
    make_due(database)
    fast = claim(database)
    assert fast is not None and fast.id == slow.id
    deliver(database, SENDER, BOX, slow)
    (row,) = deliveries(database, hook)
    assert (row.state, row.log) == ("pending", [])
    assert webhook(database, hook).busy_until is not None


def test_a_failure_waits_longer_each_time_and_is_logged(database: Database, receiver: Receiver) -> None:
    hook = make_webhook(database, receiver.url("/500"), EventType.job_cancelled)
    cancel(database, submit(database))
    pauses = []
    for _ in range(3):
        attempt(database)
        (row,) = deliveries(database, hook)
        with database.unit_of_work() as work:
            now = work.session.scalars(text("SELECT clock_timestamp()")).one()
        pauses.append((row.next_attempt_at - now).total_seconds())
    assert pauses == [pytest.approx(5, abs=3), pytest.approx(60, abs=5), pytest.approx(300, abs=5)]
    assert [entry["status"] for entry in row.log] == [500, 500, 500]
    assert row.log[-1]["error"] == "It answered 500."
    assert claim(database) is None


def test_a_webhook_that_fails_for_days_is_disabled_with_the_reason_until_it_is_enabled(
    database: Database, receiver: Receiver
) -> None:
    hook = make_webhook(database, receiver.url("/500"), EventType.job_cancelled)
    cancel(database, submit(database))
    cancel(database, submit(database))
    attempt(database)
    assert webhook(database, hook).disabled_at is None
    with database.unit_of_work() as work:
        work.session.execute(text("UPDATE webhooks SET failing_since = failing_since - interval '5 days'"))
    attempt(database)
    assert webhook(database, hook).disabled_reason == "Every delivery of 5 days failed."
    assert {row.state for row in deliveries(database, hook)} == {"failed"}
    cancel(database, submit(database))
    assert len(deliveries(database, hook)) == 2, "a disabled webhook is told nothing"
    with database.unit_of_work() as work:
        work.webhooks.enable(work.session.get_one(WebhookRow, hook))
        work.deliveries.replay(work.session.get_one(WebhookDeliveryRow, deliveries(database, hook)[0].id))
    assert claim(database) is not None


def test_one_success_ends_the_days_of_failures(database: Database, receiver: Receiver) -> None:
    hook = make_webhook(database, receiver.url("/500"), EventType.job_cancelled)
    cancel(database, submit(database))
    attempt(database)
    assert webhook(database, hook).failing_since is not None
    with database.unit_of_work() as work:
        work.session.execute(text("UPDATE webhooks SET url = :url"), {"url": receiver.url()})
    attempt(database)
    assert webhook(database, hook).failing_since is None
    assert deliveries(database, hook)[0].state == "delivered"


def test_a_receiver_that_is_gone_for_good_is_asked_once(database: Database, receiver: Receiver) -> None:
    hook = make_webhook(database, receiver.url("/410"), EventType.job_cancelled)
    cancel(database, submit(database))
    attempt(database)
    assert "410" in str(webhook(database, hook).disabled_reason)


def test_a_secret_that_cannot_be_opened_is_said_so_and_nothing_is_sent(database: Database, receiver: Receiver) -> None:
    hook = make_webhook(database, receiver.url(), EventType.job_cancelled)
    cancel(database, submit(database))
    claimed = claim(database)
    assert claimed is not None
    deliver(database, SENDER, SecretBox("b" * 42 + "A"), claimed)
    (row,) = deliveries(database, hook)
    assert "EIGENWERK_SECRETS_KEY" in row.log[0]["error"]
    assert receiver.requests == []


def test_several_senders_send_each_delivery_once(database: Database, receiver: Receiver) -> None:
    hooks = [make_webhook(database, receiver.url(), EventType.job_cancelled) for _ in range(3)]
    for _ in range(5):
        cancel(database, submit(database))
    with sending(database), sending(database):
        receiver.wait(15)
    ids = [request.headers["webhook-id"] for request in receiver.requests]
    assert len(ids) == len(set(ids)) == 15
    for hook in hooks:
        assert {row.state for row in deliveries(database, hook)} == {"delivered"}


def test_a_slow_receiver_holds_up_nobody_elses_events(database: Database, receiver: Receiver) -> None:
    make_webhook(database, receiver.url("/dripping"), EventType.job_cancelled)
    quick = make_webhook(database, receiver.url(), EventType.job_cancelled, owner="somebody")
    for _ in range(10):
        cancel(database, submit(database))
    cancel(database, submit(database, owner="somebody"))
    claimed = [claim(database), claim(database), claim(database)]
    taken = [one.webhook_id for one in claimed if one is not None]
    assert len(taken) == 2 and quick in taken


@pytest.mark.timeout(120)
def test_processes_deliver_though_redis_forgets_everything(
    harness: Harness, receiver: Receiver, redis_url: str
) -> None:
    """Real scheduler and errands; the hint is lost before anybody hears it."""
    make_webhook(harness.database, receiver.url(), EventType.job_cancelled)
    scheduler = harness.start_scheduler()
    cancel(harness.database, submit(harness.database))

    def relayed() -> bool:
        with harness.database.unit_of_work() as work:
            return work.outbox.count_unsent() == 0

    harness.until(relayed, 40, "the relay")
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    errands = harness.start("workers.errands", EIGENWERK_WEBHOOK_ADDRESSES="127.0.0.1", EIGENWERK_SECRETS_KEY=KEY)
    receiver.wait(1, seconds=40)
    openai.OpenAI(api_key="none", webhook_secret=SECRET).webhooks.unwrap(
        receiver.requests[0].body, receiver.requests[0].headers
    )
    assert harness.stop(errands) == 0
    harness.stop(scheduler)
