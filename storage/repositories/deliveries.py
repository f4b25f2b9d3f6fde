"""Deliveries of webhooks: written in the transaction that made the event, sent by who claims them, any number of times.

A claim is a lease on the webhook, and the number of the attempt is a fence: of two that send the same delivery one
writes down what came of it, and what nobody wrote down is sent again with the same id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.orm import Session

from jobspecs.lifecycle import JobState
from jobspecs.rights import Reach
from jobspecs.webhooks import EventType, events_of_job
from scheduling.deliveries import after_failure
from storage.repositories.outbox import OutboxRepository
from storage.repositories.owners import within
from storage.tables import (
    DeploymentRow,
    JobRow,
    ModelAliasMoveRow,
    ModelRow,
    ModelVersionRow,
    WebhookDeliveryRow,
    WebhookRow,
)

#: The newest attempts that a delivery remembers.
_LOG_MAX = 30


@dataclass(frozen=True)
class Claimed:
    """A delivery that somebody is to send now. `attempt` is its fence."""

    id: UUID
    webhook_id: UUID
    owner_id: UUID
    attempt: int
    url: str
    #: The secrets that sign it, the newest first.
    sealed_secrets: tuple[bytes, ...]
    message_id: str
    body: str


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt. `status`: of the answer; `error`: why there was none, or why it counts as a failure."""

    status: int | None
    error: str | None
    duration_s: float

    @property
    def delivered(self) -> bool:
        return self.error is None


class DeliveryRepository:
    """The webhook_deliveries table, and of webhooks whether they are in use."""

    def __init__(self, session: Session, outbox: OutboxRepository) -> None:
        self._session = session
        self._outbox = outbox

    def tell(self, owner_id: UUID, event: EventType, data: Mapping[str, Any]) -> None:
        """The event goes to each of the owner's webhooks that wants it, once this transaction has committed."""
        wanted = (WebhookRow.disabled_at.is_(None), WebhookRow.event_types.contains([event.value]))
        query = select(WebhookRow.id).where(within(Reach.of(owner_id), WebhookRow.owner_id), *wanted)
        for webhook_id in self._session.scalars(query):
            self.add(webhook_id, event, data)

    def add(self, webhook_id: UUID, event: EventType, data: Mapping[str, Any]) -> WebhookDeliveryRow:
        """The event goes to this webhook."""
        row = WebhookDeliveryRow(id=uuid4(), webhook_id=webhook_id, event_type=event.value)
        now_s = self._session.scalars(select(func.extract("epoch", func.clock_timestamp()))).one()
        body = {
            "id": message_id_of(row.id),
            "object": "event",
            "created_at": int(now_s),
            "type": event.value,
            "data": dict(data),
        }
        row.body = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        self._session.add(row)
        self._session.flush()
        self._session.refresh(row)
        self._hint(row.id)
        return row

    def tell_of_job(self, row: JobRow) -> None:
        """Where it has ended."""
        told = {"object": "job", "kind": row.kind, "name": row.name, "state": row.state}
        why = {"reason": row.reason, "message": row.message}
        for event in events_of_job(row.kind, JobState(row.state)):
            self.tell(row.owner_id, event, {"id": str(row.id), **told, **why})

    def tell_of_version(self, row: ModelVersionRow) -> None:
        told = {"id": _reference(row.model, row.version), "object": "model.version", "digest": row.digest}
        made_by = {"job_id": str(row.job_id) if row.job_id is not None else None}
        self.tell(row.model.owner_id, EventType.model_version_created, {**told, **made_by})

    def tell_of_move(self, model: ModelRow, move: ModelAliasMoveRow) -> None:
        ends = {"version_from": move.version_from, "version_to": move.version_to}
        told = {"id": f"{model.owner.name}/{model.name}@{move.alias}", "object": "model.alias", "alias": move.alias}
        why = {"kind": move.kind, "actor": move.actor, "reason": move.reason}
        self.tell(model.owner_id, EventType.model_alias_moved, {**told, **ends, **why})

    def tell_of_deployment(self, row: DeploymentRow, event: EventType) -> None:
        told = {"id": f"{row.owner.name}/{row.name}", "object": "deployment", "name": row.name, "model": row.served}
        self.tell(row.owner_id, event, {**told, "state": row.state, "reason": row.reason, "message": row.message})

    def claim(self, *, lease_s: float) -> Claimed | None:
        """The oldest delivery that is due, of a webhook to which nobody sends; None when there is none."""
        due = (WebhookDeliveryRow.state == "pending", WebhookDeliveryRow.next_attempt_at <= func.clock_timestamp())
        free = or_(WebhookRow.busy_until.is_(None), WebhookRow.busy_until < func.clock_timestamp())
        its_due = select(func.min(WebhookDeliveryRow.next_attempt_at)).where(*due)
        oldest = its_due.where(WebhookDeliveryRow.webhook_id == WebhookRow.id).scalar_subquery()
        webhook = self._session.scalars(
            select(WebhookRow)
            .where(WebhookRow.disabled_at.is_(None), free, oldest.is_not(None))
            .order_by(oldest)
            .limit(1)
            .with_for_update(of=WebhookRow, skip_locked=True, key_share=True)
        ).first()
        if webhook is None:
            return None
        query = select(WebhookDeliveryRow).where(WebhookDeliveryRow.webhook_id == webhook.id, *due)
        row = self._session.scalars(query.order_by(WebhookDeliveryRow.next_attempt_at).limit(1)).first()
        if row is None:
            return None
        webhook.busy_until = self._now_plus(lease_s)
        row.attempts += 1
        row.tries += 1
        self._session.flush()
        return Claimed(
            id=row.id,
            webhook_id=webhook.id,
            owner_id=webhook.owner_id,
            attempt=row.attempts,
            url=webhook.url,
            sealed_secrets=self._sealed_secrets(webhook),
            message_id=message_id_of(row.id),
            body=row.body,
        )

    def _sealed_secrets(self, webhook: WebhookRow) -> tuple[bytes, ...]:
        previous, until = webhook.previous_sealed_secret, webhook.previous_until
        now = self._session.scalars(select(func.clock_timestamp())).one()
        return (webhook.sealed_secret, *([previous] if previous is not None and until and now < until else []))

    def record(self, claimed: Claimed, outcome: Outcome) -> bool:
        """Writes down what came of the attempt, and decides what follows. False when another attempt has begun since.

        A webhook that is disabled by it is sent nothing more; what waits for it counts as failed.
        """
        webhook = self._session.get(WebhookRow, claimed.webhook_id, with_for_update={"of": WebhookRow})
        row = self._session.get(WebhookDeliveryRow, claimed.id, populate_existing=True)
        if webhook is None or row is None or row.attempts != claimed.attempt:
            return False
        now = self._session.scalars(select(func.clock_timestamp())).one()
        told = {"status": outcome.status, "error": outcome.error, "duration_s": round(outcome.duration_s, 3)}
        row.log = [*row.log, {"number": row.attempts, "at": now.isoformat(), **told}][-_LOG_MAX:]
        webhook.busy_until = None
        if outcome.delivered:
            row.state, row.finished_at, webhook.failing_since = "delivered", now, None
        else:
            webhook.failing_since = webhook.failing_since or now
            failing_s = (now - webhook.failing_since).total_seconds()
            next_step = after_failure(row.tries, failing_s, outcome.status)
            if next_step.again_in_s is None:
                row.state, row.finished_at = "failed", now
            else:
                row.next_attempt_at = self._now_plus(next_step.again_in_s)
            if next_step.disabled is not None:
                webhook.disabled_at, webhook.disabled_reason = now, next_step.disabled
                waiting = (WebhookDeliveryRow.webhook_id == webhook.id, WebhookDeliveryRow.state == "pending")
                self._session.execute(
                    update(WebhookDeliveryRow).where(*waiting).values(state="failed", finished_at=now)
                )
        self._session.flush()
        return True

    def replay(self, row: WebhookDeliveryRow) -> None:
        """It is sent again, with the same id and body, whatever came of it before."""
        row.state, row.finished_at, row.tries = "pending", None, 0
        row.next_attempt_at = self._now_plus(0.0)
        self._session.flush()
        self._session.refresh(row)
        self._hint(row.id)

    def find(self, webhook_id: UUID, delivery_id: UUID, *, lock: bool = False) -> WebhookDeliveryRow | None:
        """Of a webhook that the caller has found in its reach."""
        this = (WebhookDeliveryRow.webhook_id == webhook_id, WebhookDeliveryRow.id == delivery_id)
        query = select(WebhookDeliveryRow).where(*this).execution_options(populate_existing=True)
        return self._session.scalars(query.with_for_update() if lock else query).one_or_none()

    def list(self, webhook_id: UUID, *, limit: int) -> Sequence[WebhookDeliveryRow]:
        """The newest of a webhook that the caller has found in its reach."""
        query = select(WebhookDeliveryRow).where(WebhookDeliveryRow.webhook_id == webhook_id)
        return self._session.scalars(query.order_by(WebhookDeliveryRow.created_at.desc()).limit(limit)).all()

    def forget(self, older_than_s: float) -> None:
        """Deletes those that were made so many seconds ago and wait for nothing."""
        old = WebhookDeliveryRow.created_at < self._now_plus(-older_than_s)
        self._session.execute(delete(WebhookDeliveryRow).where(old, WebhookDeliveryRow.state != "pending"))

    def _hint(self, delivery_id: UUID) -> None:
        self._outbox.add("errand", {"delivery_id": str(delivery_id)})

    def _now_plus(self, seconds: float) -> ColumnElement[Any]:
        return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def message_id_of(delivery_id: UUID) -> str:
    """By which receivers know that they had it already."""
    return f"evt_{delivery_id.hex}"


def _reference(model: ModelRow, version: int) -> str:
    return f"{model.owner.name}/{model.name}@{version}"
