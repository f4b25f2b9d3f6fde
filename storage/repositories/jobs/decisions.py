"""Decisions of the scheduler, kept for a while so that they can be looked into and replayed."""

from __future__ import annotations

from sqlalchemy import delete, func, insert, select, text
from sqlalchemy.orm import Session

from scheduling.decisions import Action, Snapshot
from scheduling.replay import pack, unpack
from storage.tables import DecisionRow


class DecisionRepository:
    """The decisions table."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def keep(self, snapshot: Snapshot, actions: list[Action], *, keep_s: float) -> None:
        """Stores a decision, and forgets those that are older than `keep_s` seconds."""
        self._session.execute(insert(DecisionRow).values(packed=pack(snapshot, actions)))
        oldest = func.statement_timestamp() - text("make_interval(secs => :s)").bindparams(s=keep_s)
        self._session.execute(delete(DecisionRow).where(DecisionRow.at < oldest))

    def newest(self, limit: int = 1) -> list[tuple[Snapshot, list[Action]]]:
        """What was decided from and what, the newest first."""
        query = select(DecisionRow.packed).order_by(DecisionRow.at.desc()).limit(limit)
        return [unpack(packed) for packed in self._session.scalars(query)]
