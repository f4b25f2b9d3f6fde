"""The checkpoints that a fine-tuning job has stored, and the model that it ended with."""

from __future__ import annotations

from uuid import UUID

from api.errors import ApiError
from api.fine_tuning.schemas import FineTuningCheckpoint, FineTuningCheckpoints
from jobspecs.events import MetricEvent, ProgressEvent
from jobspecs.manifest import Manifest
from jobspecs.openai_ids import openai_id
from storage.database import UnitOfWork
from storage.tables import JobRow

#: Events that are looked at for the losses at a checkpoint.
_EVENTS_MAX = 5000


def checkpoints_of(work: UnitOfWork, row: JobRow, after: str | None, limit: int) -> FineTuningCheckpoints:
    """A page, the furthest first. Raises ApiError 400 for what is no checkpoint's id."""
    found = [*_result(work, row), *_stored(work, row)]
    if after is not None:
        ids = [checkpoint.id for checkpoint in found]
        if after not in ids:
            raise ApiError(400, f"{after[:100]!r} is no checkpoint of this job.", param="after")
        found = found[ids.index(after) + 1 :]
    page = found[:limit]
    ends = (page[0].id, page[-1].id) if page else (None, None)
    return FineTuningCheckpoints(data=page, first_id=ends[0], last_id=ends[1], has_more=len(found) > limit)


def _result(work: UnitOfWork, row: JobRow) -> list[FineTuningCheckpoint]:
    """The model of a job that succeeded: its checkpoints are gone by then."""
    model = work.models.of_job(row.id)
    if model is None:
        return []
    manifest = Manifest.model_validate(model.manifest)
    steps = (manifest.report.get("training") or {}).get("steps")
    names = {"train/loss": "train_loss", "validation/loss": "valid_loss", "test/loss": "valid_loss"}
    metrics = {names[name]: value for name, value in manifest.metrics.items() if name in names}
    return [
        FineTuningCheckpoint(
            id=_id(row.id, "end"),
            created_at=int(model.created_at.timestamp()),
            fine_tuned_model_checkpoint=model.full_name,
            fine_tuning_job_id=openai_id("ftjob", row.id),
            metrics={**metrics, **({"step": float(steps)} if isinstance(steps, int) else {})},
            step_number=steps if isinstance(steps, int) else 0,
        )
    ]


def _stored(work: UnitOfWork, row: JobRow) -> list[FineTuningCheckpoint]:
    rows = work.checkpoints.newest_first(row.id)
    losses = _losses(work, row) if rows else {}
    return [
        FineTuningCheckpoint(
            id=_id(row.id, f"{checkpoint.fence}-{checkpoint.step}"),
            created_at=int(checkpoint.created_at.timestamp()),
            fine_tuned_model_checkpoint=None,
            fine_tuning_job_id=openai_id("ftjob", row.id),
            metrics={"step": float(checkpoint.step), **losses.get(checkpoint.step, {})},
            step_number=checkpoint.step,
        )
        for checkpoint in rows
    ]


def _losses(work: UnitOfWork, row: JobRow) -> dict[int, dict[str, float]]:
    """Step -> what was measured there, as OpenAI names it."""
    found: dict[int, dict[str, float]] = {}
    for recorded in work.events.after(row.id, limit=_EVENTS_MAX, kinds=("progress", "metric")):
        event = recorded.event
        if isinstance(event, ProgressEvent) and event.stage == "train" and event.loss is not None:
            found.setdefault(event.step, {})["train_loss"] = event.loss
        elif isinstance(event, MetricEvent) and event.step is not None and event.name.endswith("/loss"):
            found.setdefault(event.step, {})["valid_loss"] = event.value
    return found


def _id(job_id: UUID, which: str) -> str:
    return f"ftckpt-{job_id.hex}-{which}"
