"""Making, showing and testing webhooks. Nothing is sent from here: what is due is a row, and others send it."""

from __future__ import annotations

import base64
import secrets
from typing import Any
from uuid import UUID

from api.errors import ApiError, not_found
from api.parts import Parts
from api.webhooks.schemas import (
    Attempt,
    Delivery,
    DeliveryDetail,
    DeliveryList,
    NewWebhook,
    Webhook,
    WebhookList,
    WebhookRequest,
)
from jobspecs.addresses import NotAllowed
from jobspecs.problems import InvalidInput, Problem
from jobspecs.rights import Principal, Reach
from jobspecs.webhooks import SECRET_BYTES, SECRET_PREFIX, EventType
from storage.database import UnitOfWork
from storage.outgoing import destination
from storage.repositories.deliveries import message_id_of
from storage.secret_box import KEY_VARIABLE
from storage.settings import WEBHOOK_ADDRESSES
from storage.tables import WebhookDeliveryRow, WebhookRow

WEBHOOKS_MAX = 20


def create(parts: Parts, user: Principal, request: WebhookRequest) -> NewWebhook:
    """Raises InvalidInput for an address that is not allowed, ApiError 409 for one webhook too many,
    and where the platform has no key for secrets.
    """
    if parts.secret_box is None:
        message = f"This platform has no key to encrypt secrets with. Its administrator sets one: {KEY_VARIABLE}"
        raise ApiError(409, message, code="no_secrets_key")
    check_url(parts, request.url)
    secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    owner_id = user.reach("webhooks.write").maker
    sealed = parts.secret_box.seal(owner_id, secret)
    with parts.database.unit_of_work() as work:
        if work.webhooks.count(owner_id) >= WEBHOOKS_MAX:
            message = f"You have {WEBHOOKS_MAX} webhooks, the most there may be. Delete one: eigenwerk webhooks rm ID"
            raise ApiError(409, message, code="too_many_webhooks")
        row = work.webhooks.add(
            owner_id,
            name=request.name,
            url=request.url,
            event_types=list(dict.fromkeys(event.value for event in request.event_types)),
            secret=secret,
            sealed_secret=sealed,
        )
        return NewWebhook(**_shown(row).model_dump(), signing_secret=secret)


def check_url(parts: Parts, url: str) -> None:
    """Raises InvalidInput for an address that may not be asked, as it is resolved now; so it is before each request."""
    try:
        destination(url, parts.settings.webhook_addresses, WEBHOOK_ADDRESSES, parts.resolve)
    except NotAllowed as error:
        raise InvalidInput([Problem(field="url", message=str(error), remedy="docs/webhooks.md")]) from error
    except (OSError, UnicodeError) as error:
        message = "the name of its host can't be resolved."
        raise InvalidInput([Problem(field="url", message=message, remedy="Check the spelling.")]) from error


def list_webhooks(parts: Parts, user: Principal) -> WebhookList:
    with parts.database.unit_of_work() as work:
        return WebhookList(data=[_shown(row) for row in work.webhooks.list(user.reach("webhooks.read"))])


def get(parts: Parts, user: Principal, webhook_id: UUID) -> Webhook:
    with parts.database.unit_of_work() as work:
        return _shown(_found(work, user.reach("webhooks.read"), webhook_id))


def enable(parts: Parts, user: Principal, webhook_id: UUID) -> Webhook:
    with parts.database.unit_of_work() as work:
        row = _found(work, user.reach("webhooks.write"), webhook_id, lock=True)
        work.webhooks.enable(row)
        return _shown(row)


def delete(parts: Parts, user: Principal, webhook_id: UUID) -> None:
    with parts.database.unit_of_work() as work:
        work.webhooks.delete(_found(work, user.reach("webhooks.write"), webhook_id, lock=True))


def test(parts: Parts, user: Principal, webhook_id: UUID, event: EventType | None) -> DeliveryDetail:
    """A sample goes the way of every event, whether the webhook wants this one or not."""
    with parts.database.unit_of_work() as work:
        row = _usable(work, user.reach("webhooks.write"), webhook_id)
        chosen = event or EventType(row.event_types[0])
        return _detail(work.deliveries.add(row.id, chosen, {"id": "test", "object": "test"}))


def list_deliveries(parts: Parts, user: Principal, webhook_id: UUID, *, limit: int) -> DeliveryList:
    with parts.database.unit_of_work() as work:
        row = _found(work, user.reach("webhooks.read"), webhook_id)
        return DeliveryList(data=[Delivery(**_told(item)) for item in work.deliveries.list(row.id, limit=limit)])


def get_delivery(parts: Parts, user: Principal, webhook_id: UUID, delivery_id: UUID) -> DeliveryDetail:
    with parts.database.unit_of_work() as work:
        row = _found(work, user.reach("webhooks.read"), webhook_id)
        return _detail(_found_delivery(work, row, delivery_id))


def replay(parts: Parts, user: Principal, webhook_id: UUID, delivery_id: UUID) -> DeliveryDetail:
    with parts.database.unit_of_work() as work:
        row = _usable(work, user.reach("webhooks.write"), webhook_id)
        delivery = _found_delivery(work, row, delivery_id)
        work.deliveries.replay(delivery)
        return _detail(delivery)


def _found(work: UnitOfWork, reach: Reach, webhook_id: UUID, *, lock: bool = False) -> WebhookRow:
    row = work.webhooks.find(reach, webhook_id, lock=lock)
    if row is None:
        raise not_found(f"webhook {webhook_id}")
    return row


def _usable(work: UnitOfWork, reach: Reach, webhook_id: UUID) -> WebhookRow:
    """Raises ApiError 409 when nothing is sent to it."""
    row = _found(work, reach, webhook_id, lock=True)
    if row.disabled_at is not None:
        message = f"The webhook is disabled: {row.disabled_reason} Enable it: eigenwerk webhooks enable {row.id}"
        raise ApiError(409, message, code="webhook_disabled")
    return row


def _found_delivery(work: UnitOfWork, webhook: WebhookRow, delivery_id: UUID) -> WebhookDeliveryRow:
    row = work.deliveries.find(webhook.id, delivery_id)
    if row is None:
        raise not_found(f"delivery {delivery_id}")
    return row


def _shown(row: WebhookRow) -> Webhook:
    return Webhook(
        id=row.id,
        name=row.name,
        owner=row.owner.name,
        url=row.url,
        event_types=row.event_types,
        signing_secret_hint=f"…{row.secret_hint}",
        enabled=row.disabled_at is None,
        disabled_at=row.disabled_at,
        disabled_reason=row.disabled_reason,
        failing_since=row.failing_since,
        created_at=row.created_at,
    )


def _detail(row: WebhookDeliveryRow) -> DeliveryDetail:
    return DeliveryDetail(**_told(row), body=row.body)


def _told(row: WebhookDeliveryRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "message_id": message_id_of(row.id),
        "event_type": row.event_type,
        "state": row.state,
        "attempts": row.attempts,
        "log": [Attempt.model_validate(attempt) for attempt in row.log],
        "created_at": row.created_at,
        "next_attempt_at": row.next_attempt_at if row.state == "pending" else None,
        "finished_at": row.finished_at,
    }
