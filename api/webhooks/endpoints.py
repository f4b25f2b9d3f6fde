"""/v1/webhooks."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from api.authentication import TheUser, guarded_router, requires
from api.parts import ThePlatform
from api.webhooks import service
from api.webhooks.schemas import (
    DeliveryDetail,
    DeliveryList,
    NewWebhook,
    RotationRequest,
    TestRequest,
    Webhook,
    WebhookList,
    WebhookRequest,
)

router = guarded_router("webhooks")


@router.post("/v1/webhooks", status_code=201)
@requires("webhooks.write")
def create_webhook(platform: ThePlatform, user: TheUser, request: WebhookRequest) -> NewWebhook:
    """Events of these types are sent to the address from now on. The secret that signs them is shown this once."""
    return service.create(platform, user, request)


@router.get("/v1/webhooks")
@requires("webhooks.read")
def list_webhooks(platform: ThePlatform, user: TheUser) -> WebhookList:
    """Your webhooks, newest first."""
    return service.list_webhooks(platform, user)


@router.get("/v1/webhooks/{webhook_id}")
@requires("webhooks.read")
def get_webhook(platform: ThePlatform, user: TheUser, webhook_id: UUID) -> Webhook:
    """One webhook, and why nothing is sent to it where that is so."""
    return service.get(platform, user, webhook_id)


@router.delete("/v1/webhooks/{webhook_id}", status_code=204)
@requires("webhooks.write")
def delete_webhook(platform: ThePlatform, user: TheUser, webhook_id: UUID) -> Response:
    """Deletes the webhook with the log of its deliveries."""
    service.delete(platform, user, webhook_id)
    return Response(status_code=204)


@router.post("/v1/webhooks/{webhook_id}/enable")
@requires("webhooks.write")
def enable_webhook(platform: ThePlatform, user: TheUser, webhook_id: UUID) -> Webhook:
    """Uses a webhook again that was disabled after too many failures."""
    return service.enable(platform, user, webhook_id)


@router.post("/v1/webhooks/{webhook_id}/rotate")
@requires("webhooks.write")
def rotate_secret(platform: ThePlatform, user: TheUser, webhook_id: UUID, request: RotationRequest) -> NewWebhook:
    """Signs with a new secret, which is shown this once, and for a while with the old one as well."""
    return service.rotate(platform, user, webhook_id, request.keep_old_for)


@router.post("/v1/webhooks/{webhook_id}/test", status_code=202)
@requires("webhooks.write")
def test_webhook(platform: ThePlatform, user: TheUser, webhook_id: UUID, request: TestRequest) -> DeliveryDetail:
    """Sends a sample event; its delivery tells what came of it."""
    return service.test(platform, user, webhook_id, request.event_type)


@router.get("/v1/webhooks/{webhook_id}/deliveries")
@requires("webhooks.read")
def list_deliveries(
    platform: ThePlatform,
    user: TheUser,
    webhook_id: UUID,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> DeliveryList:
    """What was and is to be sent to the webhook, newest first. Deliveries are kept for 30 days."""
    return service.list_deliveries(platform, user, webhook_id, limit=limit)


@router.get("/v1/webhooks/{webhook_id}/deliveries/{delivery_id}")
@requires("webhooks.read")
def get_delivery(platform: ThePlatform, user: TheUser, webhook_id: UUID, delivery_id: UUID) -> DeliveryDetail:
    """One delivery, with what is sent."""
    return service.get_delivery(platform, user, webhook_id, delivery_id)


@router.post("/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/replay", status_code=202)
@requires("webhooks.write")
def replay_delivery(platform: ThePlatform, user: TheUser, webhook_id: UUID, delivery_id: UUID) -> DeliveryDetail:
    """Sends it again, with the same id and body, whatever came of it before."""
    return service.replay(platform, user, webhook_id, delivery_id)
