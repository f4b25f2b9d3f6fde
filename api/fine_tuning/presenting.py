"""Jobs as OpenAI's clients see them."""

from __future__ import annotations

import time

from api.files.service import id_of
from api.fine_tuning.asking import hyperparameters_of, method_of
from api.fine_tuning.schemas import FineTuningJob, JobError, Status
from jobspecs.events import ProgressEvent
from jobspecs.frozen import FrozenInputs
from jobspecs.kinds.finetune_llm import FinetuneLlm
from jobspecs.lifecycle import REASONS, JobState, Reason
from jobspecs.manifest import Manifest
from jobspecs.openai_ids import openai_id
from storage.database import UnitOfWork
from storage.tables import JobRow

#: The other states are `running`: a place is had, or given back at this moment.
_STATUS: dict[JobState, Status] = {
    JobState.queued: "queued",
    JobState.paused: "paused",
    JobState.succeeded: "succeeded",
    JobState.failed: "failed",
    JobState.cancelled: "cancelled",
}


def presented(work: UnitOfWork, row: JobRow) -> FineTuningJob:
    spec, inputs = FinetuneLlm.model_validate(row.spec), FrozenInputs.model_validate(row.inputs)
    state = JobState(row.state)
    model = work.models.of_job(row.id) if state is JobState.succeeded else None
    report = Manifest.model_validate(model.manifest).report if model is not None else {}
    tokens = (report.get("training") or {}).get("tokens")
    validation = inputs.held_out or inputs.test
    return FineTuningJob(
        id=openai_id("ftjob", row.id),
        created_at=int(row.created_at.timestamp()),
        finished_at=int(row.finished_at.timestamp()) if row.finished_at is not None else None,
        estimated_finish=_estimated_finish(work, row, state),
        error=_error(row) if state is JobState.failed else None,
        fine_tuned_model=model.full_name if model is not None else None,
        hyperparameters=hyperparameters_of(spec),
        model=spec.model,
        organization_id=row.owner.name,
        seed=spec.training.seed,
        status=_STATUS.get(state, "running"),
        trained_tokens=round(tokens * spec.training.epochs) if isinstance(tokens, int) else None,
        training_file=id_of(inputs.dataset.version_id if inputs.dataset is not None else None) or "",
        validation_file=id_of(validation.version_id) if validation is not None else None,
        metadata=row.notes,
        method=method_of(spec),
        job_id=row.id,
    )


def _estimated_finish(work: UnitOfWork, row: JobRow, state: JobState) -> int | None:
    if state is not JobState.running:
        return None
    newest = work.events.newest(row.id, "progress")
    event = newest.event if newest is not None else None
    return int(time.time() + event.eta_s) if isinstance(event, ProgressEvent) and event.eta_s is not None else None


def _error(row: JobRow) -> JobError:
    rule = REASONS[Reason(row.reason)] if row.reason is not None else None
    told = " ".join(part for part in (row.message, rule.remedy if rule is not None else None) if part)
    return JobError(code=row.reason or "failed", message=told)
