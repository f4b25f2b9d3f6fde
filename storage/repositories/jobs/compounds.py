"""What pipelines and sweeps are alike in: people submit them, schedulers decide about them, jobs are made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobspecs.rights import Reach
from storage.repositories.outbox import OutboxRepository
from storage.repositories.owners import within
from storage.tables import JobRow, PipelineRow, PipelineStepRow, SweepRow, SweepTrialRow

Row = TypeVar("Row", PipelineRow, SweepRow)


class CompoundRepository(ABC, Generic[Row]):
    """One such table."""

    _table: type[Row]
    #: What a wake-up of the scheduler calls its id.
    _called: ClassVar[str]

    def __init__(self, session: Session, outbox: OutboxRepository) -> None:
        self._session = session
        self._outbox = outbox

    @abstractmethod
    def request_cancel(self, compound_id: UUID, /) -> bool:
        """It begins nothing any more; what runs is asked to end. False when it has ended."""

    def find(self, reach: Reach, compound_id: UUID, *, lock: bool = False) -> Row | None:
        """The one of that id as it is now, when it is in the reach."""
        query = select(self._table).where(self._table.id == compound_id, within(reach, self._table.owner_id))
        query = query.with_for_update(of=self._table) if lock else query
        return self._session.scalars(query.execution_options(populate_existing=True)).one_or_none()

    def find_by_key(self, owner_id: UUID, idempotency_key: str) -> Row | None:
        own = within(Reach.of(owner_id), self._table.owner_id)
        query = select(self._table).where(own, self._table.idempotency_key == idempotency_key)
        return self._session.scalars(query).one_or_none()

    def list(self, reach: Reach, *, before: int | None = None, limit: int = 50) -> Sequence[Row]:
        """Those in the reach, newest first. `before`: only those with a smaller `submitted_order` (the next page)."""
        query = select(self._table).where(within(reach, self._table.owner_id))
        if before is not None:
            query = query.where(self._table.submitted_order < before)
        return self._session.scalars(query.order_by(self._table.submitted_order.desc()).limit(limit)).all()

    def lock(self, compound_id: UUID) -> Row | None:
        """Locks it for a scheduler. None: it has ended, or another scheduler has it just now."""
        unended = self._table.id == compound_id, self._table.finished_at.is_(None)
        query = select(self._table).where(*unended).with_for_update(of=self._table, skip_locked=True)
        return self._session.scalars(query.execution_options(populate_existing=True)).one_or_none()

    def request_cancel_of(self, owner_id: UUID) -> None:
        """Nothing of what an owner has submitted begins any more."""
        own = within(Reach.of(owner_id), self._table.owner_id)
        active = select(self._table.id).where(own, self._table.finished_at.is_(None))
        for compound_id in self._session.scalars(active).all():
            self.request_cancel(compound_id)

    def _add(self, owner_id: UUID, *, idempotency_key: str | None, **values: Any) -> tuple[Row, bool]:
        """A new row; with a known idempotency key the earlier one, and False."""
        statement = insert(self._table).values(owner_id=owner_id, idempotency_key=idempotency_key, **values)
        statement = statement.on_conflict_do_nothing(index_elements=["owner_id", "idempotency_key"])
        made = self._session.scalars(statement.returning(self._table.id)).one_or_none()
        if made is None and idempotency_key is not None:
            earlier = self.find_by_key(owner_id, idempotency_key)
            if earlier is not None:
                return earlier, False
        return self._session.get_one(self._table, made), True

    def jobs_of(self, parts: Iterable[PipelineStepRow | SweepTrialRow]) -> dict[UUID, JobRow]:
        """The jobs that steps or trials run or ran, by id."""
        wanted = [part.job_id for part in parts if part.job_id is not None]
        rows = self._session.scalars(select(JobRow).where(JobRow.id.in_(wanted)))
        return {row.id: row for row in rows}

    def _update(self, compound_id: UUID, **values: Any) -> None:
        self._session.execute(update(self._table).where(self._table.id == compound_id).values(values))

    def _announce(self, compound_id: UUID) -> None:
        """Wakes the scheduler."""
        self._outbox.add("schedule", {self._called: str(compound_id)})
