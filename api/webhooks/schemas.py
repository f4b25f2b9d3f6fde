"""The shapes of webhooks. A secret is shown once, when its webhook is made."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from jobspecs.addresses import URL_CHARS_MAX
from jobspecs.kinds.base import Duration
from jobspecs.webhooks import EventType

DeliveryState = Literal["pending", "delivered", "failed"]


#: For people.
WebhookName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
WebhookUrl = Annotated[str, Field(max_length=URL_CHARS_MAX)]
EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=len(EventType))]


class WebhookRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: WebhookName
    url: WebhookUrl
    event_types: EventTypes


class RotationRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    #: How long the secret of until now signs as well.
    keep_old_for: Annotated[Duration, Field(ge=timedelta(0), le=timedelta(days=7))] = timedelta(hours=24)


class TestRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    #: pytest would take it for tests.
    __test__ = False

    #: The first that the webhook wants, if absent.
    event_type: EventType | None = None


class Webhook(BaseModel):
    """Named as OpenAI names its own."""

    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    id: UUID
    name: str
    owner: str
    url: str
    event_types: list[str]
    #: The secret's last characters.
    signing_secret_hint: str
    #: Until when the secret before it signs as well; null: it does not.
    previous_secret_until: datetime | None
    #: Whether events are sent to it; `disabled_reason` says why not.
    enabled: bool
    disabled_at: datetime | None
    disabled_reason: str | None
    #: Since when every attempt has failed.
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime


class NewWebhook(Webhook):
    """With the secret that signs: it is shown nowhere else."""

    signing_secret: str


class WebhookList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Webhook]


class Attempt(BaseModel):
    """`status`: of the answer; `error`: why there was none, or why it counts as a failure."""

    number: int
    at: datetime
    status: int | None
    error: str | None
    duration_s: float


class Delivery(BaseModel):
    """One event for one webhook. `message_id`: what every attempt brings as `webhook-id`."""

    object: Literal["webhook_delivery"] = "webhook_delivery"
    id: UUID
    message_id: str
    event_type: str
    state: DeliveryState
    attempts: int
    #: The newest thirty, oldest first.
    log: list[Attempt]
    created_at: datetime
    #: While it is pending.
    next_attempt_at: datetime | None
    finished_at: datetime | None


class DeliveryDetail(Delivery):
    """With what is sent, as it is sent."""

    body: str


class DeliveryList(BaseModel):
    """The newest deliveries of a webhook."""

    object: Literal["list"] = "list"
    data: list[Delivery]
