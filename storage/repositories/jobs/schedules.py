"""Schedules: what people make of them, and what schedulers run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobspecs.pipelines.frozen import StepInputs
from jobspecs.rights import Reach
from storage.repositories.jobs.pipelines import NewStep
from storage.repositories.owners import within
from storage.tables import ScheduleRow, ScheduleRunRow


class ScheduleRepository:
    """The schedules and schedule_runs tables. Reads of people keep within the reach that they are given."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def now(self) -> datetime:
        """By the database's clock, the only one that schedules know."""
        now: datetime = self._session.scalars(select(func.clock_timestamp())).one()
        return now

    def add(
        self,
        owner_id: UUID,
        name: str,
        *,
        cron: str,
        time_zone: str,
        missed: str,
        document: Mapping[str, Any],
        steps: Sequence[NewStep],
        next_at: datetime,
    ) -> ScheduleRow | None:
        """None when the owner has one of that name."""
        stored = [{**asdict(step), "inputs": step.inputs.model_dump(mode="json")} for step in steps]
        values = {"cron": cron, "time_zone": time_zone, "missed": missed, "document": dict(document)}
        made = insert(ScheduleRow).values(owner_id=owner_id, name=name, steps=stored, next_at=next_at, **values)
        made = made.on_conflict_do_nothing(index_elements=["owner_id", "name"])
        schedule_id = self._session.scalars(made.returning(ScheduleRow.id)).one_or_none()
        return self._session.get_one(ScheduleRow, schedule_id) if schedule_id is not None else None

    def find(self, reach: Reach, name: str, *, lock: bool = False) -> ScheduleRow | None:
        """The home's own of that name."""
        query = select(ScheduleRow).where(within(Reach.of(reach.home), ScheduleRow.owner_id), ScheduleRow.name == name)
        query = query.where(within(reach, ScheduleRow.owner_id)).execution_options(populate_existing=True)
        return self._session.scalars(query.with_for_update(of=ScheduleRow) if lock else query).one_or_none()

    def list(self, reach: Reach) -> Sequence[ScheduleRow]:
        """All in the reach, by name."""
        query = select(ScheduleRow).where(within(reach, ScheduleRow.owner_id))
        return self._session.scalars(query.order_by(ScheduleRow.name)).all()

    def runs(self, schedule_id: UUID, *, limit: int) -> Sequence[ScheduleRunRow]:
        """The newest first."""
        query = select(ScheduleRunRow).where(ScheduleRunRow.schedule_id == schedule_id)
        return self._session.scalars(query.order_by(ScheduleRunRow.due_at.desc()).limit(limit)).all()

    def pause(self, row: ScheduleRow) -> None:
        row.paused_at = row.paused_at or self.now()
        self._session.flush()

    def resume(self, row: ScheduleRow, next_at: datetime) -> None:
        """Times that came meanwhile are not missed: nobody wanted them."""
        row.paused_at, row.next_at = None, next_at
        self._session.flush()

    def delete(self, row: ScheduleRow) -> None:
        """What it has queued stays."""
        self._session.delete(row)
        self._session.flush()

    def delete_of(self, owner_id: UUID) -> None:
        """All of an owner's."""
        self._session.execute(delete(ScheduleRow).where(within(Reach.of(owner_id), ScheduleRow.owner_id)))

    def due(self, limit: int) -> Sequence[UUID]:
        """Those with a time that has come, the longest overdue first."""
        query = select(ScheduleRow.id).where(*_DUE).order_by(ScheduleRow.next_at).limit(limit)
        return self._session.scalars(query).all()

    def lock_due(self, schedule_id: UUID) -> ScheduleRow | None:
        """None when another scheduler has it, or has run it already, or it was paused or deleted."""
        query = select(ScheduleRow).where(ScheduleRow.id == schedule_id, *_DUE)
        locked = query.with_for_update(of=ScheduleRow, skip_locked=True, key_share=True)
        return self._session.scalars(locked.execution_options(populate_existing=True)).one_or_none()

    def add_run(
        self,
        row: ScheduleRow,
        due_at: datetime,
        *,
        job_id: UUID | None = None,
        pipeline_id: UUID | None = None,
        refused: str | None = None,
    ) -> None:
        """The database refuses a second one of the same time."""
        told = {"job_id": job_id, "pipeline_id": pipeline_id, "refused": refused}
        self._session.add(ScheduleRunRow(schedule_id=row.id, due_at=due_at, **told))
        self._session.flush()

    def go_on(self, row: ScheduleRow, next_at: datetime) -> None:
        row.next_at = next_at
        self._session.flush()


_DUE = (ScheduleRow.paused_at.is_(None), ScheduleRow.next_at <= func.clock_timestamp())


def steps_of(row: ScheduleRow) -> list[NewStep]:
    """What was checked when the schedule was made."""
    return [NewStep(**{**step, "inputs": StepInputs.model_validate(step["inputs"])}) for step in row.steps]
