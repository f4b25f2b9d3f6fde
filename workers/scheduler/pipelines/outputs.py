"""What a step's job has made."""

from __future__ import annotations

from collections.abc import Mapping
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


def code_of(work: UnitOfWork, job_id: UUID) -> Mapping[str, str]:
    """Library -> version of what made the job's result; empty when it was deleted."""
    made = work.models.of_job(job_id) or work.datasets.of_job(job_id)
    return (made.manifest or {}).get("versions") or {} if made is not None else {}
