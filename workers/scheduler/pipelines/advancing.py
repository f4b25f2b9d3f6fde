"""Takes every pipeline of which something may be decided as far as it goes.

Each decision is one transaction that holds the pipeline's lock: of two schedulers one decides. A step's state, its job
and the message in the outbox are committed together, so a scheduler that dies leaves a step begun once or not at all.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from uuid import UUID

from jobspecs.pipelines.lifecycle import StepReason, StepState
from jobspecs.problems import InvalidInput
from scheduling.pipelines import Action, End, Reuse, Settle, Start, Stop, decide
from storage.database import Database, DatabaseUnavailable, UnitOfWork
from storage.tables import PipelineRow
from workers.scheduler.pipelines.known import Known, look_at
from workers.scheduler.pipelines.starting import InputGone, begin, take_earlier

log = logging.getLogger(__name__)

#: Pipelines of one look at most: the leader must show that it lives.
PIPELINES_MAX = 50
#: What begins and is done at once, an alias, lets others begin. More looks than a pipeline can have steps are a defect.
_LOOKS_MAX = 250


def advance_all(database: Database, pipeline_ids: Sequence[UUID]) -> None:
    """What is wrong with one pipeline is logged and keeps no other from going on; it is looked at again."""
    for pipeline_id in pipeline_ids:
        try:
            advance(database, pipeline_id)
        except DatabaseUnavailable:
            raise
        except Exception:
            log.exception("pipeline %s can't go on; it is tried again", pipeline_id)


def advance(database: Database, pipeline_id: UUID) -> None:
    """Decides until nothing is left to do. Does nothing where another scheduler has it, or when it has ended."""
    for _ in range(_LOOKS_MAX):
        if not _look(database, pipeline_id):
            return


def _look(database: Database, pipeline_id: UUID) -> bool:
    """One decision, done and committed. Whether there may be another one."""
    with database.unit_of_work() as work:
        row = work.pipelines.lock(pipeline_id)
        if row is None:
            return False
        known = look_at(work, row)
        actions = decide(known.snapshot)
        for action in actions:
            _do(work, row, known, action)
        if actions and isinstance(actions[-1], End):
            log.info("pipeline %s (%s) has ended: %s", row.id, row.name, actions[-1].state)
            return False
        # Should this scheduler die now, the next one goes on.
        goes_on = any(isinstance(action, Start | Reuse | Settle) for action in actions)
        work.pipelines.note(pipeline_id, due=goes_on)
        return goes_on


def _do(work: UnitOfWork, row: PipelineRow, known: Known, action: Action) -> None:
    if isinstance(action, End):
        work.pipelines.end(row.id, action.state, action.message)
        return
    step = known.steps[action.step]
    if isinstance(action, Stop):
        if step.job_id is not None:
            work.jobs.request_cancel(step.job_id, actor=f"pipeline:{row.name}")
        else:
            # A deployment is wanted on: what was wanted before can't be told any more.
            work.pipelines.move(step, StepState.cancelled, reason=StepReason.cancelled_by_user)
    elif isinstance(action, Settle):
        work.pipelines.move(
            step,
            action.state,
            reason=action.reason,
            message=action.message,
            figures=action.figures,
            output=known.outputs.get(step.name) if action.state is StepState.succeeded else None,
        )
    elif isinstance(action, Reuse):
        take_earlier(work, step, action.job_id, action.figures)
    else:
        try:
            with work.savepoint():
                begin(work, row, step, known.outputs, action.figures)
        except (InvalidInput, InputGone) as error:
            reason = StepReason.refused if isinstance(error, InvalidInput) else StepReason.input_deleted
            work.pipelines.move(step, StepState.failed, reason=reason, message=str(error), figures=action.figures)
