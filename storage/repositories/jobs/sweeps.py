"""Sweeps: what people submit and ask for, and what schedulers do with it. Only this writes their states."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update

from jobspecs.sweeps.frozen import SweepPlan
from jobspecs.sweeps.lifecycle import SETTLED, SweepState, TrialReason, TrialState, may_move
from storage.repositories.jobs.compounds import CompoundRepository
from storage.tables import SweepRow, SweepTrialRow

#: Sweeps of which something may be decided: they say so themselves, their time has come, or a trial's job has ended.
#: By chance, for more may be due than are looked at: none is always behind others.
_DUE = text("""
SELECT id FROM (
SELECT id FROM sweeps WHERE due
UNION
SELECT id FROM sweeps WHERE look_at <= statement_timestamp()
UNION
SELECT trials.sweep_id FROM sweep_trials AS trials
    JOIN sweeps ON sweeps.id = trials.sweep_id AND sweeps.finished_at IS NULL
    LEFT JOIN jobs ON jobs.id = trials.job_id
    WHERE trials.state IN ('running', 'stopped') AND trials.reason IS DISTINCT FROM 'out_of_time'
        AND (jobs.id IS NULL OR jobs.state IN ('succeeded', 'failed', 'cancelled'))
) AS found ORDER BY random() LIMIT :limit
""")


class SweepRepository(CompoundRepository[SweepRow]):
    """The sweeps and sweep_trials tables."""

    _table, _called = SweepRow, "sweep_id"

    def submit(
        self,
        owner_id: UUID,
        name: str,
        document: Mapping[str, Any],
        plan: SweepPlan,
        *,
        request_sha256: str,
        idempotency_key: str | None = None,
    ) -> tuple[SweepRow, bool]:
        """Adds a sweep. With a known idempotency key the earlier one comes back, and False."""
        row, is_new = self._add(
            owner_id,
            idempotency_key=idempotency_key,
            name=name,
            document=dict(document),
            plan=plan.model_dump(mode="json"),
            request_sha256=request_sha256,
        )
        if not is_new:
            return row, False
        self._announce(row.id)
        return row, True

    def trials(self, sweep_id: UUID) -> Sequence[SweepTrialRow]:
        """In the order of their numbers."""
        query = select(SweepTrialRow).where(SweepTrialRow.sweep_id == sweep_id)
        query = query.order_by(SweepTrialRow.number).execution_options(populate_existing=True)
        return self._session.scalars(query).all()

    def states_of(self, sweep_ids: Collection[UUID]) -> dict[UUID, Sequence[str]]:
        """The states of each one's trials."""
        query = select(SweepTrialRow.sweep_id, SweepTrialRow.state).where(SweepTrialRow.number > 0)
        found: dict[UUID, list[str]] = {sweep_id: [] for sweep_id in sweep_ids}
        for sweep_id, state in self._session.execute(query.where(SweepTrialRow.sweep_id.in_(found))):
            found[sweep_id].append(state)
        return dict(found)

    def due(self, limit: int) -> Sequence[UUID]:
        """Sweeps of which something may be decided."""
        return self._session.scalars(_DUE, {"limit": limit}).all()

    def age_s(self, row: SweepRow) -> float:
        """Seconds since it was submitted, by the database's clock."""
        age = func.extract("epoch", func.clock_timestamp() - SweepRow.created_at)
        return float(self._session.scalar(select(age).where(SweepRow.id == row.id)) or 0.0)

    def note(self, sweep_id: UUID, *, due: bool, look_in_s: float | None) -> None:
        """Whether, or in how many seconds, the sweep is to be looked at again though no job of it has ended."""
        later = func.clock_timestamp() + text("make_interval(secs => :s)").bindparams(s=look_in_s or 0.0)
        self._update(sweep_id, due=due, look_at=None if look_in_s is None else later)

    def request_cancel(self, sweep_id: UUID) -> bool:
        """The sweep begins nothing any more; what runs is asked to end. False when it has ended."""
        asked = self._session.scalars(
            update(SweepRow)
            .where(SweepRow.id == sweep_id, SweepRow.finished_at.is_(None))
            .values(state=SweepState.cancelling.value, due=True)
            .returning(SweepRow.id)
        ).one_or_none()
        self._announce(sweep_id)
        return asked is not None

    def begin(self, sweep_id: UUID, number: int, values: Mapping[str, Any], job_id: UUID) -> None:
        """A trial begins with its job, in one transaction. Its number is its key: it can't begin twice."""
        self._session.add(SweepTrialRow(sweep_id=sweep_id, number=number, values=dict(values), job_id=job_id))
        self._session.flush()

    def refuse(self, sweep_id: UUID, number: int, values: Mapping[str, Any], reason: TrialReason, message: str) -> None:
        """A trial fails before it has a job."""
        row = SweepTrialRow(sweep_id=sweep_id, number=number, values=dict(values), reason=reason, message=message)
        row.state, row.finished_at = TrialState.failed.value, func.clock_timestamp()
        self._session.add(row)
        self._session.flush()

    def move(
        self,
        trial: SweepTrialRow,
        target: TrialState,
        *,
        reason: TrialReason | None = None,
        message: str | None = None,
        **found: Any,
    ) -> None:
        """Moves a trial from the state that it was read in. `found`: columns with what it was found to have done."""
        if not may_move(TrialState(trial.state), target):
            raise ValueError(f"a trial does not go from {trial.state} to {target}")
        trial.state, trial.reason, trial.message = target.value, reason, message
        for column, value in found.items():
            setattr(trial, column, value)
        trial.finished_at = func.clock_timestamp() if target in SETTLED else None
        self._session.flush()

    def reached(self, trial: SweepTrialRow, loss: float) -> None:
        """The trial has come to its next rung."""
        trial.rungs = [*trial.rungs, loss]
        self._session.flush()

    def end(self, sweep_id: UUID, state: SweepState, winner: int | None, message: str | None) -> None:
        ended = {"state": state.value, "message": message, "winner": winner, "finished_at": func.clock_timestamp()}
        self._update(sweep_id, due=False, look_at=None, **ended)

    def name_winner(self, sweep_id: UUID, number: int) -> None:
        self._update(sweep_id, winner=number)
