"""What a step's job has made."""

from __future__ import annotations

from uuid import UUID

from jobspecs.manifest import Manifest
from jobspecs.pipelines.frozen import StepOutput
from storage.database import UnitOfWork


def output_of(work: UnitOfWork, job_id: UUID) -> StepOutput | None:
    """The version that the job registered; None when it was deleted."""
    if (model := work.models.of_job(job_id)) is not None:
        return StepOutput(
            type="model",
            reference=f"{model.model.owner.name}/{model.model.name}@{model.version}",
            version_id=model.id,
            digest=model.digest,
            metrics=Manifest.model_validate(model.manifest).metrics,
        )
    if (data := work.datasets.of_job(job_id)) is not None:
        return StepOutput(
            type="dataset",
            reference=f"{data.dataset.owner.name}/{data.dataset.name}@{data.version}",
            version_id=data.id,
            digest=data.sha256,
            metrics=Manifest.model_validate(data.manifest).metrics if data.manifest is not None else {},
        )
    return None
