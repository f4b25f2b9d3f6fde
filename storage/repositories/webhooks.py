"""Webhooks, as their owners make, see and delete them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from jobspecs.rights import Reach
from storage.repositories.owners import within
from storage.tables import WebhookRow

#: Characters at the end of a secret that are kept readable.
_HINT_CHARS = 4


class WebhookRepository:
    """The webhooks table. Reads keep within the reach that they are given."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(
        self, owner_id: UUID, *, name: str, url: str, event_types: Sequence[str], secret: str, sealed_secret: bytes
    ) -> WebhookRow:
        """Of the secret itself only the last characters are kept."""
        row = WebhookRow(
            owner_id=owner_id,
            name=name,
            url=url,
            event_types=list(event_types),
            sealed_secret=sealed_secret,
            secret_hint=secret[-_HINT_CHARS:],
        )
        self._session.add(row)
        self._session.flush()
        self._session.refresh(row)
        return row

    def find(self, reach: Reach, webhook_id: UUID, *, lock: bool = False) -> WebhookRow | None:
        query = select(WebhookRow).where(WebhookRow.id == webhook_id, within(reach, WebhookRow.owner_id))
        if lock:
            query = query.with_for_update(of=WebhookRow, key_share=True).execution_options(populate_existing=True)
        return self._session.scalars(query).one_or_none()

    def list(self, reach: Reach) -> Sequence[WebhookRow]:
        """All in the reach, newest first."""
        query = select(WebhookRow).where(within(reach, WebhookRow.owner_id))
        return self._session.scalars(query.order_by(WebhookRow.created_at.desc())).all()

    def count(self, owner_id: UUID) -> int:
        owned = within(Reach.of(owner_id), WebhookRow.owner_id)
        return self._session.scalar(select(func.count()).select_from(WebhookRow).where(owned)) or 0

    def change(self, row: WebhookRow, changes: Mapping[str, Any]) -> None:
        """Writes the columns that are another value now; nothing else moves `updated_at`."""
        changed = {name: value for name, value in changes.items() if getattr(row, name) != value}
        for name, value in changed.items():
            setattr(row, name, value)
        if changed:
            self._touch(row)

    def rotate(self, row: WebhookRow, *, secret: str, sealed_secret: bytes, keep_for: timedelta) -> None:
        """Signs with another secret from now on, and for so long with the one that it had as well."""
        kept = keep_for > timedelta(0)
        row.previous_sealed_secret = row.sealed_secret if kept else None
        row.previous_until = func.clock_timestamp() + keep_for if kept else None
        row.sealed_secret, row.secret_hint = sealed_secret, secret[-_HINT_CHARS:]
        self._touch(row)

    def _touch(self, row: WebhookRow) -> None:
        row.updated_at = func.clock_timestamp()
        self._session.flush()
        self._session.refresh(row)

    def enable(self, row: WebhookRow) -> None:
        """It is used again, and its failures are forgotten."""
        row.disabled_at, row.disabled_reason, row.failing_since = None, None, None
        self._session.flush()

    def delete(self, row: WebhookRow) -> None:
        """With its deliveries; one that is under way may still arrive."""
        self._session.delete(row)
        self._session.flush()
