"""Pipelines: what people submit and ask for, and what schedulers do with it. Only this writes their states."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update

from jobspecs.lifecycle import JobState
from jobspecs.pipelines.frozen import StepInputs, StepOutput
from jobspecs.pipelines.lifecycle import RETRYABLE, SETTLED, PipelineState, StepReason, StepState, may_move
from jobspecs.rights import Reach
from storage.repositories.jobs.compounds import CompoundRepository
from storage.repositories.owners import within
from storage.tables import DeploymentRow, JobRow, PipelineEventRow, PipelineRow, PipelineStepRow

#: Pipelines of which something may be decided: they say so themselves, or what a step runs has ended.
_DUE = text("""
SELECT id FROM pipelines WHERE due
UNION
SELECT steps.pipeline_id FROM pipeline_steps AS steps
    LEFT JOIN jobs ON jobs.id = steps.job_id LEFT JOIN deployments ON deployments.id = steps.deployment_id
    WHERE steps.state = 'running' AND (
        jobs.state IN ('succeeded', 'failed', 'cancelled')
        OR deployments.state IN ('ready', 'failed') OR deployments.wanted = false
        OR (jobs.id IS NULL AND deployments.id IS NULL)
    )
LIMIT :limit
""")


@dataclass(frozen=True)
class NewStep:
    """A step as it was checked and frozen."""

    name: str
    kind: str
    spec: Mapping[str, Any]
    condition: str | None
    needs: Sequence[str]
    inputs: StepInputs
    memory_bytes: int = 0
    warnings: Sequence[Mapping[str, Any]] = ()


class PipelineRepository(CompoundRepository[PipelineRow]):
    """The pipelines and pipeline_steps tables."""

    _table, _called = PipelineRow, "pipeline_id"

    def submit(
        self,
        owner_id: UUID,
        name: str,
        document: Mapping[str, Any],
        steps: Sequence[NewStep],
        *,
        request_sha256: str,
        idempotency_key: str | None = None,
    ) -> tuple[PipelineRow, bool]:
        """Adds a pipeline. With a known idempotency key the earlier one comes back, and False."""
        row, is_new = self._add(
            owner_id,
            idempotency_key=idempotency_key,
            name=name,
            document=dict(document),
            request_sha256=request_sha256,
        )
        if not is_new:
            return row, False
        for number, step in enumerate(steps):
            self._session.add(
                PipelineStepRow(
                    pipeline_id=row.id,
                    number=number,
                    name=step.name,
                    kind=step.kind,
                    spec=dict(step.spec),
                    condition=step.condition,
                    needs=list(step.needs),
                    inputs=step.inputs.model_dump(mode="json"),
                    memory_bytes=step.memory_bytes,
                    warnings=[dict(warning) for warning in step.warnings],
                )
            )
        self._session.flush()
        self._tell(row.id, PipelineState.running)
        self._announce(row.id)
        return row, True

    def steps(self, pipeline_id: UUID) -> Sequence[PipelineStepRow]:
        """In the order of the document."""
        query = select(PipelineStepRow).where(PipelineStepRow.pipeline_id == pipeline_id)
        query = query.order_by(PipelineStepRow.number).execution_options(populate_existing=True)
        return self._session.scalars(query).all()

    def states_of(self, pipeline_ids: Collection[UUID]) -> dict[UUID, Sequence[str]]:
        """The states of each one's steps."""
        query = select(PipelineStepRow.pipeline_id, PipelineStepRow.state)
        found: dict[UUID, list[str]] = {pipeline_id: [] for pipeline_id in pipeline_ids}
        for pipeline_id, state in self._session.execute(query.where(PipelineStepRow.pipeline_id.in_(found))):
            found[pipeline_id].append(state)
        return dict(found)

    def successes(self, owner_id: UUID, kind: str, name: str, *, limit: int) -> Sequence[JobRow]:
        """The owner's jobs of this kind and name that have succeeded, newest first."""
        own = within(Reach.of(owner_id), JobRow.owner_id)
        query = select(JobRow).where(own, JobRow.state == JobState.succeeded, JobRow.kind == kind, JobRow.name == name)
        return self._session.scalars(query.order_by(JobRow.submitted_order.desc()).limit(limit)).all()

    def deployment_of(self, step: PipelineStepRow) -> DeploymentRow | None:
        """What the step wants served; None when it is gone."""
        return self._session.get(DeploymentRow, step.deployment_id) if step.deployment_id is not None else None

    def due(self, limit: int) -> Sequence[UUID]:
        """Pipelines of which something may be decided."""
        return self._session.scalars(_DUE, {"limit": limit}).all()

    def note(self, pipeline_id: UUID, *, due: bool) -> None:
        """Whether the pipeline is to be looked at again, though nothing that it runs has ended."""
        self._update(pipeline_id, due=due)

    def request_cancel(self, pipeline_id: UUID) -> bool:
        """The pipeline begins nothing any more; what runs is asked to end. False when it has ended."""
        unended = select(PipelineRow.state).where(PipelineRow.id == pipeline_id, PipelineRow.finished_at.is_(None))
        before = self._session.scalars(unended.with_for_update()).one_or_none()
        if before is None:
            return False
        if before != PipelineState.cancelling:
            self._update(pipeline_id, state=PipelineState.cancelling.value, due=True)
            self._tell(pipeline_id, PipelineState.cancelling)
        self._announce(pipeline_id)
        return True

    def retry(self, pipeline_id: UUID) -> bool:
        """What did not succeed waits again; what did stays. False when there is nothing to retry.

        A step keeps the job that failed, and goes on from its checkpoint.
        """
        retried = self._session.scalars(
            update(PipelineRow)
            .where(PipelineRow.id == pipeline_id, PipelineRow.state.in_([str(state) for state in RETRYABLE]))
            .values(state=PipelineState.running.value, message=None, finished_at=None, due=True)
            .returning(PipelineRow.id)
        ).one_or_none()
        if retried is None:
            return False
        self._tell(pipeline_id, PipelineState.running)
        again = [str(state) for state in SETTLED if may_move(state, StepState.waiting)]
        steps = self._session.scalars(
            update(PipelineStepRow)
            .where(PipelineStepRow.pipeline_id == pipeline_id, PipelineStepRow.state.in_(again))
            .values(state=StepState.waiting.value, reason=None, message=None, figures=None, finished_at=None)
            .returning(PipelineStepRow.name)
        )
        for step in steps.all():
            self._tell(pipeline_id, StepState.waiting, step=step)
        self._announce(pipeline_id)
        return True

    def move(
        self,
        step: PipelineStepRow,
        target: StepState,
        *,
        reason: StepReason | None = None,
        message: str | None = None,
        figures: Mapping[str, Any] | None = None,
        output: StepOutput | None = None,
        **links: UUID | None,
    ) -> bool:
        """Moves the step from the state that it was read in; False, and nothing is changed, when it has another one.

        `links`: `job_id` or `deployment_id`, where it is another one now.
        """
        source = StepState(step.state)
        if not may_move(source, target):
            raise ValueError(f"a step does not go from {source} to {target}")
        now = func.clock_timestamp()
        values: dict[str, Any] = {"state": target.value, "reason": reason, "message": message, **links}
        if source is StepState.waiting:
            values |= {"started_at": now} if target is StepState.running else {}
            values |= {"figures": dict(figures)} if figures else {}
        if target in SETTLED:
            values["finished_at"] = now
        if output is not None:
            values["output"] = output.model_dump(mode="json")
        moved = self._session.scalars(
            update(PipelineStepRow)
            .where(
                PipelineStepRow.pipeline_id == step.pipeline_id,
                PipelineStepRow.name == step.name,
                PipelineStepRow.state == source.value,
            )
            .values(values)
            .returning(PipelineStepRow.name)
        ).one_or_none()
        if moved is None:
            return False
        job_id = links.get("job_id") or step.job_id
        self._tell(step.pipeline_id, target, step=step.name, reason=reason, message=message, job_id=job_id)
        return True

    def end(self, pipeline_id: UUID, state: PipelineState, message: str | None) -> None:
        ended = {"state": state.value, "message": message, "finished_at": func.clock_timestamp()}
        self._update(pipeline_id, due=False, **ended)
        self._tell(pipeline_id, state, message=message)

    def events_after(self, pipeline_id: UUID, seq: int, *, limit: int) -> Sequence[PipelineEventRow]:
        """What has happened behind the event of that number, in order."""
        query = select(PipelineEventRow).where(PipelineEventRow.pipeline_id == pipeline_id, PipelineEventRow.seq > seq)
        return self._session.scalars(query.order_by(PipelineEventRow.seq).limit(limit)).all()

    def newest_event(self, pipeline_id: UUID) -> int:
        """The number of the newest event; 0 without any."""
        newest = select(func.max(PipelineEventRow.seq)).where(PipelineEventRow.pipeline_id == pipeline_id)
        return self._session.scalar(newest) or 0

    def delete(self, row: PipelineRow) -> None:
        """With its steps and history; what it has queued and made stays."""
        self._session.delete(row)
        self._session.flush()

    def _tell(self, pipeline_id: UUID, state: PipelineState | StepState, **told: Any) -> None:
        """Adds to the history. The caller holds the pipeline's row."""
        self._session.add(PipelineEventRow(pipeline_id=pipeline_id, state=state.value, **told))
        self._session.flush()
