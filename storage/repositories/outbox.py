"""The outbox: what must be said because a transaction committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from storage.tables import OutboxRow

Topic = Literal["schedule", "wake", "errand"]


@dataclass(frozen=True)
class UnsentMessage:
    """A message that waits. `age_s`: seconds since it was written, by the database's clock alone."""

    id: int
    topic: str
    payload: dict[str, Any]
    age_s: float


class OutboxRepository:
    """Adds messages within a transaction; the relay reads them afterwards."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, topic: Topic, payload: dict[str, Any]) -> None:
        """The message goes out after the transaction commits, at least once."""
        self._session.add(OutboxRow(topic=topic, payload=payload))
        # PostgreSQL delivers this at commit and drops it at rollback.
        self._session.execute(text("SELECT pg_notify('eigenwerk_outbox', '')"))

    def unsent(self, limit: int = 200) -> list[UnsentMessage]:
        """The oldest unsent messages. Two relays may read the same ones: receivers tolerate repeats."""
        age_s = func.extract("epoch", func.clock_timestamp() - OutboxRow.created_at)
        query = select(OutboxRow.id, OutboxRow.topic, OutboxRow.payload, age_s).where(OutboxRow.sent_at.is_(None))
        rows = self._session.execute(query.order_by(OutboxRow.id).limit(limit))
        return [UnsentMessage(id_, topic, payload, float(age)) for id_, topic, payload, age in rows]

    def mark_sent(self, ids: list[int]) -> None:
        self._session.execute(update(OutboxRow).where(OutboxRow.id.in_(ids)).values(sent_at=func.clock_timestamp()))

    def count_unsent(self) -> int:
        return self._session.scalar(select(func.count()).select_from(OutboxRow).where(OutboxRow.sent_at.is_(None))) or 0

    def forget_sent(self, older_than_s: float) -> int:
        """Deletes sent messages older than `older_than_s` seconds; returns how many."""
        deleted = self._session.execute(
            text("DELETE FROM outbox WHERE sent_at < statement_timestamp() - make_interval(secs => :s) RETURNING id"),
            {"s": older_than_s},
        )
        return len(deleted.all())
