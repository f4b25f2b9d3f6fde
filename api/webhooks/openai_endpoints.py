"""/v1/webhook_endpoints: the same webhooks, as OpenAI's client asks for them."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import anyio
from fastapi import Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict

from api.authentication import TheUser, guarded_router, requires
from api.errors import ApiError
from api.parts import ThePlatform
from api.webhooks import service
from api.webhooks.schemas import (
    DeliveryDetail,
    EventTypes,
    NewWebhook,
    TestRequest,
    Webhook,
    WebhookName,
    WebhookRequest,
    WebhookUrl,
)
from jobspecs.problems import InvalidInput, Problem
from jobspecs.webhooks import EventType

router = guarded_router("webhooks")

#: Seconds between two looks at what came of a test.
_LOOK_S = 0.1
_KEPT = timedelta(hours=24)


class EndpointChange(BaseModel):
    """What is absent stays."""

    model_config = ConfigDict(extra="forbid")

    name: WebhookName | None = None
    url: WebhookUrl | None = None
    event_types: EventTypes | None = None


class SecretRotation(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keep_old_secret_active_for_24_hours: bool = False


class WebhookEndpoint(BaseModel):
    """Moments are in seconds since 1970."""

    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    id: str
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str
    created_at: int
    updated_at: int


class NewWebhookEndpoint(WebhookEndpoint):
    signing_secret: str


class WebhookEndpointList(BaseModel):
    object: Literal["list"] = "list"
    data: list[WebhookEndpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedWebhookEndpoint(BaseModel):
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    id: str
    deleted: Literal[True] = True


class WebhookEndpointTest(BaseModel):
    """`status_code`: what the address answered, whatever it was."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True


class EventTypeList(BaseModel):
    object: Literal["list"] = "list"
    data: list[str]


@router.post("/v1/webhook_endpoints")
@requires("webhooks.write")
def create_endpoint(platform: ThePlatform, user: TheUser, request: WebhookRequest) -> NewWebhookEndpoint:
    """Events of these types, OpenAI's or the platform's own, are sent to the address from now on."""
    return _with_secret(service.create(platform, user, request))


@router.get("/v1/webhook_endpoints")
@requires("webhooks.read")
def list_endpoints(
    platform: ThePlatform,
    user: TheUser,
    after: Annotated[UUID | None, Query(description="the last of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> WebhookEndpointList:
    """Your webhooks, newest first."""
    found = service.list_webhooks(platform, user).data
    ids = [webhook.id for webhook in found]
    if after is not None and after not in ids:
        raise InvalidInput([Problem(field="after", message="you have no such webhook.", remedy="Begin anew.")])
    rest = found[ids.index(after) + 1 :] if after is not None else found
    page = [_shown(webhook) for webhook in rest[:limit]]
    first, last = (page[0].id, page[-1].id) if page else (None, None)
    return WebhookEndpointList(data=page, first_id=first, last_id=last, has_more=len(rest) > limit)


@router.get("/v1/webhook_endpoints/{webhook_id}")
@requires("webhooks.read")
def get_endpoint(platform: ThePlatform, user: TheUser, webhook_id: UUID) -> WebhookEndpoint:
    """One webhook."""
    return _shown(service.get(platform, user, webhook_id))


@router.post("/v1/webhook_endpoints/{webhook_id}")
@requires("webhooks.write")
def update_endpoint(platform: ThePlatform, user: TheUser, webhook_id: UUID, request: EndpointChange) -> WebhookEndpoint:
    """Changes name, address or events. What waits to be sent goes to the new address."""
    return _shown(service.change(platform, user, webhook_id, **dict(request)))


@router.delete("/v1/webhook_endpoints/{webhook_id}")
@requires("webhooks.write")
def delete_endpoint(platform: ThePlatform, user: TheUser, webhook_id: UUID) -> DeletedWebhookEndpoint:
    """Deletes the webhook with the log of its deliveries."""
    service.delete(platform, user, webhook_id)
    return DeletedWebhookEndpoint(id=str(webhook_id))


@router.post("/v1/webhook_endpoints/{webhook_id}/rotate_secret")
@requires("webhooks.write")
def rotate_endpoint_secret(
    platform: ThePlatform, user: TheUser, webhook_id: UUID, request: SecretRotation
) -> NewWebhookEndpoint:
    """Signs with a new secret, and for 24 hours with the old one as well where that is wanted."""
    kept = _KEPT if request.keep_old_secret_active_for_24_hours else timedelta(0)
    return _with_secret(service.rotate(platform, user, webhook_id, kept))


@router.post("/v1/webhook_endpoints/{webhook_id}/test")
@requires("webhooks.write")
async def test_endpoint(
    platform: ThePlatform, user: TheUser, webhook_id: UUID, request: TestRequest
) -> WebhookEndpointTest:
    """Sends a sample event and waits for the answer to it; 422 when the address gave none."""
    sent = await run_in_threadpool(service.test, platform, user, webhook_id, request.event_type)
    look = partial(service.get_delivery, platform, user, webhook_id, sent.id)
    deadline_s = time.monotonic() + platform.settings.webhook_test_s
    while not sent.log and time.monotonic() < deadline_s:
        await anyio.sleep(_LOOK_S)
        sent = await run_in_threadpool(look)
    return WebhookEndpointTest(
        webhook_endpoint_id=str(webhook_id), event_type=sent.event_type, status_code=_answered(sent)
    )


@router.get("/v1/webhook_event_types")
@requires("webhooks.read")
def list_event_types(user: TheUser) -> EventTypeList:
    """The events that a webhook can be told of."""
    return EventTypeList(data=[event.value for event in EventType])


def _answered(sent: DeliveryDetail) -> int:
    """Raises ApiError 422 when there was no answer."""
    last = sent.log[-1] if sent.log else None
    if last is None or last.status is None:
        why = last.error if last is not None and last.error else "Nobody has sent it yet."
        raise ApiError(422, f"The test event did not arrive. {why}", code="webhook_not_reached")
    return last.status


def _shown(webhook: Webhook) -> WebhookEndpoint:
    return WebhookEndpoint(**_fields(webhook))


def _with_secret(webhook: NewWebhook) -> NewWebhookEndpoint:
    return NewWebhookEndpoint(**_fields(webhook), signing_secret=webhook.signing_secret)


def _fields(webhook: Webhook) -> dict[str, Any]:
    same = webhook.model_dump(include={"name", "url", "event_types", "signing_secret_hint"})
    moments = {name: int(getattr(webhook, name).timestamp()) for name in ("created_at", "updated_at")}
    return {"id": str(webhook.id), **same, **moments}
