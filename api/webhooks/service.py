"""Making, showing and testing webhooks. Nothing is sent from here: what is due is a row, and others send it."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import timedelta
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
from storage.secret_box import KEY_VARIABLE, SecretUnreadable
from storage.settings import WEBHOOK_ADDRESSES
from storage.tables import WebhookDeliveryRow, WebhookRow

WEBHOOKS_MAX = 20


def create(parts: Parts, user: Principal, request: WebhookRequest) -> NewWebhook:
    """Raises InvalidInput for an address that is not allowed, ApiError 409 for one webhook too many,
    and where the platform has no key for secrets.
    """
    owner_id = user.reach("webhooks.write").maker
    secret, sealed = _new_secret(parts, owner_id)
    check_url(parts, request.url)
    with parts.database.unit_of_work() as work:
        if work.webhooks.count(owner_id) >= WEBHOOKS_MAX:
            message = f"You have {WEBHOOKS_MAX} webhooks, the most there may be. Delete one: eigenwerk webhooks rm ID"
            raise ApiError(409, message, code="too_many_webhooks")
        row = work.webhooks.add(
            owner_id,
            name=request.name,
            url=request.url,
            event_types=_values(request.event_types),
            secret=secret,
            sealed_secret=sealed,
        )
        return NewWebhook(**_shown(row).model_dump(), signing_secret=secret)


def change(
    parts: Parts,
    user: Principal,
    webhook_id: UUID,
    *,
    name: str | None,
    url: str | None,
    event_types: Sequence[EventType] | None,
) -> Webhook:
    """Changes what is not None. What waits for it goes to the new address. Raises InvalidInput as `create` does."""
    with parts.database.unit_of_work() as work:
        _found(work, user.reach("webhooks.write"), webhook_id)
    if url is not None:
        check_url(parts, url)
    told = {"name": name, "url": url, "event_types": _values(event_types) if event_types is not None else None}
    with parts.database.unit_of_work() as work:
        row = _found(work, user.reach("webhooks.write"), webhook_id, lock=True)
        work.webhooks.change(row, {field: value for field, value in told.items() if value is not None})
        return _shown(row)


def rotate(parts: Parts, user: Principal, webhook_id: UUID, keep_old_for: timedelta) -> NewWebhook:
    """Another secret signs from now on; so long the one before it as well, so that receivers may change meanwhile."""
    with parts.database.unit_of_work() as work:
        row = _found(work, user.reach("webhooks.write"), webhook_id, lock=True)
        secret, sealed = _new_secret(parts, row.owner_id)
        kept = keep_old_for if _opens(parts, row) else timedelta(0)
        work.webhooks.rotate(row, secret=secret, sealed_secret=sealed, keep_for=kept)
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


def _new_secret(parts: Parts, owner_id: UUID) -> tuple[str, bytes]:
    """A secret, and as it is kept. Raises ApiError 409 where the platform has no key for secrets."""
    if parts.secret_box is None:
        message = f"This platform has no key to encrypt secrets with. Its administrator sets one: {KEY_VARIABLE}"
        raise ApiError(409, message, code="no_secrets_key")
    secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    return secret, parts.secret_box.seal(owner_id, secret)


def _opens(parts: Parts, row: WebhookRow) -> bool:
    """Whether the platform's key is still that with which the secret was sealed."""
    try:
        return parts.secret_box is not None and bool(parts.secret_box.open(row.owner_id, row.sealed_secret))
    except SecretUnreadable:
        return False


def _values(event_types: Sequence[EventType]) -> list[str]:
    return list(dict.fromkeys(event.value for event in event_types))


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
        previous_secret_until=row.previous_until,
        enabled=row.disabled_at is None,
        disabled_at=row.disabled_at,
        disabled_reason=row.disabled_reason,
        failing_since=row.failing_since,
        created_at=row.created_at,
        updated_at=row.updated_at,
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
