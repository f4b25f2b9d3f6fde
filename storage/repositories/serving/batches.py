"""Batches: durable rows that whoever is free takes on, answer by answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, case, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from jobspecs.batches import ENDED, TRANSITIONS, UNENDED, BatchState
from jobspecs.rights import Reach
from storage.repositories.owners import same_owner, within
from storage.tables import BatchAnswerRow, BatchRow

#: Seconds within which a batch is to be worked off, as at OpenAI's.
WINDOW_S = 24 * 3600.0
#: Answers read at once while they become a file.
_PAGE = 500


@dataclass(frozen=True)
class Counts:
    """Answers so far; `failed` are among none of the `completed`."""

    completed: int = 0
    failed: int = 0


class BatchRepository:
    """The tables batches and batch_answers. Only this writes a batch's state."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def submit(self, owner_id: UUID, *, endpoint: str, input_version_id: UUID, notes: Mapping[str, str]) -> BatchRow:
        row = BatchRow(owner_id=owner_id, endpoint=endpoint, input_version_id=input_version_id, notes=dict(notes))
        row.expires_at = self._session.scalars(select(self._now_plus(WINDOW_S))).one()
        self._session.add(row)
        self._session.flush()
        self._session.refresh(row)
        return row

    def unended(self, owner_id: UUID) -> int:
        """How many of the owner's have not ended."""
        mine = within(Reach.of(owner_id), BatchRow.owner_id)
        return self._session.scalar(select(func.count()).where(mine, BatchRow.state.in_(UNENDED))) or 0

    def find(self, reach: Reach, batch_id: UUID, *, lock: bool = False) -> BatchRow | None:
        query = select(BatchRow).where(BatchRow.id == batch_id, within(reach, BatchRow.owner_id))
        query = query.with_for_update(of=BatchRow) if lock else query
        return self._session.scalars(query.execution_options(populate_existing=True)).one_or_none()

    def list(self, reach: Reach, *, after: BatchRow | None, limit: int) -> Sequence[BatchRow]:
        """Newest first."""
        query = select(BatchRow).where(within(reach, BatchRow.owner_id))
        if after is not None:
            older = BatchRow.created_at < after.created_at
            query = query.where(or_(older, (BatchRow.created_at == after.created_at) & (BatchRow.id < after.id)))
        return self._session.scalars(query.order_by(BatchRow.created_at.desc(), BatchRow.id.desc()).limit(limit)).all()

    def move(self, batch_id: UUID, target: BatchState, *, fence: int | None = None, **values: Any) -> BatchRow | None:
        """Moves the batch; None, and nothing is changed, when its state or fence does not allow it."""
        row = self._session.get(BatchRow, batch_id, with_for_update={"of": BatchRow}, populate_existing=True)
        if row is None or target not in TRANSITIONS[BatchState(row.state)] or fence not in (None, row.fence):
            return None
        now_s = self._session.scalars(select(func.extract("epoch", func.clock_timestamp()))).one()
        row.state, row.times = target.value, {**row.times, target.value: int(now_s)}
        for name, value in values.items():
            setattr(row, name, value)
        if target in ENDED:
            counts = self.counts(batch_id)
            row.lease_until, row.completed, row.failed = None, counts.completed, counts.failed
            self._session.execute(delete(BatchAnswerRow).where(BatchAnswerRow.batch_id == batch_id))
        self._session.flush()
        return row

    def claim(self, *, lease_s: float) -> BatchRow | None:
        """One that has not ended and that nobody works on, taken on from now: its fence is raised.

        Of those, first one whose owner has the fewest under way, then the oldest.
        """
        free = or_(BatchRow.lease_until.is_(None), BatchRow.lease_until < func.clock_timestamp())
        other = aliased(BatchRow)
        under_way = (
            select(func.count())
            .select_from(other)
            .where(same_owner(other.owner_id, BatchRow.owner_id), other.lease_until >= func.clock_timestamp())
            .scalar_subquery()
        )
        row = self._session.scalars(
            select(BatchRow)
            .where(BatchRow.state.in_(UNENDED), free)
            .order_by(under_way, BatchRow.created_at)
            .limit(1)
            .with_for_update(of=BatchRow, skip_locked=True)
        ).first()
        if row is None:
            return None
        row.fence += 1
        row.lease_until = self._session.scalars(select(self._now_plus(lease_s))).one()
        self._session.flush()
        return row

    def renew(self, batch_id: UUID, fence: int, *, lease_s: float) -> BatchState | None:
        """Its state, and whether its window is over (`expired`); None when somebody else has taken it on."""
        mine = (BatchRow.id == batch_id, BatchRow.fence == fence, BatchRow.state.in_(UNENDED))
        expires = [str(state) for state, targets in TRANSITIONS.items() if BatchState.expired in targets]
        over = (BatchRow.expires_at < func.clock_timestamp()) & BatchRow.state.in_(expires)
        told = case((over, BatchState.expired.value), else_=BatchRow.state)
        renewed = update(BatchRow).where(*mine).values(lease_until=self._now_plus(lease_s)).returning(told)
        state = self._session.scalars(renewed).one_or_none()
        return None if state is None else BatchState(state)

    def give_back(self, batch_id: UUID, fence: int) -> None:
        """Whoever comes next may take it on at once."""
        mine = (BatchRow.id == batch_id, BatchRow.fence == fence)
        self._session.execute(update(BatchRow).where(*mine).values(lease_until=None))

    def answer(self, batch_id: UUID, fence: int, line: int, *, failed: bool, document: str) -> bool:
        """Keeps the answer to a line, the first that there is. False when somebody else has taken the batch on."""
        query = select(BatchRow.id).where(BatchRow.id == batch_id, BatchRow.fence == fence)
        if self._session.scalar(query.with_for_update(read=True)) is None:
            return False
        values = {"batch_id": batch_id, "line": line, "failed": failed, "document": document}
        self._session.execute(insert(BatchAnswerRow).values(values).on_conflict_do_nothing())
        return True

    def answered(self, batch_id: UUID) -> set[int]:
        """Lines that have an answer."""
        return set(self._session.scalars(select(BatchAnswerRow.line).where(BatchAnswerRow.batch_id == batch_id)))

    def answer_bytes(self, batch_id: UUID) -> int:
        """Of all answers together."""
        query = select(func.coalesce(func.sum(func.octet_length(BatchAnswerRow.document)), 0))
        return int(self._session.scalar(query.where(BatchAnswerRow.batch_id == batch_id)) or 0)

    def counts(self, batch_id: UUID) -> Counts:
        query = select(BatchAnswerRow.failed, func.count()).where(BatchAnswerRow.batch_id == batch_id)
        found = {failed: count for failed, count in self._session.execute(query.group_by(BatchAnswerRow.failed))}
        return Counts(found.get(False, 0), found.get(True, 0))

    def documents(self, batch_id: UUID, *, failed: bool) -> Iterator[str]:
        """The answers in the order of their lines."""
        last = 0
        while True:
            query = select(BatchAnswerRow.line, BatchAnswerRow.document).where(
                BatchAnswerRow.batch_id == batch_id, BatchAnswerRow.failed == failed, BatchAnswerRow.line > last
            )
            rows = self._session.execute(query.order_by(BatchAnswerRow.line).limit(_PAGE)).all()
            for line, document in rows:
                last = line
                yield document
            if len(rows) < _PAGE:
                return

    def _now_plus(self, seconds: float) -> ColumnElement[Any]:
        return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
