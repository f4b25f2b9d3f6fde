"""Webhooks: what the platform answers about them, and what a client asks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from pydantic import Field

from eigenwerk.http.transport import Transport, given
from eigenwerk.resources.resource import Resource


class Webhook(Resource):
    """`signing_secret` is there once, in the answer that made it; `disabled_reason`: why nothing is sent to it."""

    id: str
    name: str
    url: str
    event_types: list[str] = Field(default_factory=list)
    signing_secret: str | None = None
    signing_secret_hint: str = ""
    #: Until when the secret before it signs as well.
    previous_secret_until: datetime | None = None
    enabled: bool = True
    disabled_reason: str | None = None
    failing_since: datetime | None = None
    created_at: datetime


class Delivery(Resource):
    """One event for one webhook. `log`: what came of the attempts, the newest last."""

    id: str
    message_id: str
    event_type: str
    #: `pending`, `delivered` or `failed`.
    state: str
    attempts: int
    log: list[dict[str, Any]] = Field(default_factory=list)
    created_at: datetime
    next_attempt_at: datetime | None = None
    #: What is sent; not in lists.
    body: str | None = None


class WebhookCalls:
    """The part of a Client that is about webhooks."""

    _transport: Transport

    def webhooks(self) -> list[Webhook]:
        return [Webhook.model_validate(item) for item in self._transport.call("GET", "/v1/webhooks")["data"]]

    def webhook(self, webhook_id: str) -> Webhook:
        return Webhook.model_validate(self._transport.call("GET", _path(webhook_id)))

    def create_webhook(self, name: str, url: str, event_types: Sequence[str]) -> Webhook:
        """Events of these types are sent to the address. Keep the `signing_secret`: nothing shows it again."""
        body = {"name": name, "url": url, "event_types": list(event_types)}
        return Webhook.model_validate(self._transport.call("POST", "/v1/webhooks", json=body))

    def enable_webhook(self, webhook_id: str) -> Webhook:
        """Uses a webhook again that was disabled after too many failures."""
        return Webhook.model_validate(self._transport.call("POST", f"{_path(webhook_id)}/enable"))

    def rotate_webhook_secret(self, webhook_id: str, *, keep_old_for: str | None = None) -> Webhook:
        """Signs with a new secret, in the answer's `signing_secret`; `keep_old_for` (24h) with the old one as well."""
        path = f"{_path(webhook_id)}/rotate"
        return Webhook.model_validate(self._transport.call("POST", path, json=given(keep_old_for=keep_old_for)))

    def delete_webhook(self, webhook_id: str) -> None:
        self._transport.call("DELETE", _path(webhook_id))

    def test_webhook(self, webhook_id: str, event_type: str | None = None) -> Delivery:
        """Sends a sample event; `delivery` tells what came of it."""
        answer = self._transport.call("POST", f"{_path(webhook_id)}/test", json=given(event_type=event_type))
        return Delivery.model_validate(answer)

    def deliveries(self, webhook_id: str, *, limit: int = 50) -> list[Delivery]:
        """What was and is to be sent to the webhook, newest first."""
        page = self._transport.call("GET", f"{_path(webhook_id)}/deliveries", params={"limit": limit})
        return [Delivery.model_validate(item) for item in page["data"]]

    def delivery(self, webhook_id: str, delivery_id: str) -> Delivery:
        """One, with what is sent."""
        return Delivery.model_validate(self._transport.call("GET", _path(webhook_id, delivery_id)))

    def replay(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Sends it again with the same id, whatever came of it before."""
        return Delivery.model_validate(self._transport.call("POST", f"{_path(webhook_id, delivery_id)}/replay"))


def _path(webhook_id: str, delivery_id: str | None = None) -> str:
    path = f"/v1/webhooks/{quote(webhook_id, safe='')}"
    return path if delivery_id is None else f"{path}/deliveries/{quote(delivery_id, safe='')}"
