"""Pipelines of real jobs on a harness: what the API would have stored, and how they end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from jobspecs.frozen import FrozenInputs
from jobspecs.manifest import Manifest
from jobspecs.pipelines.frozen import StepInputs
from jobspecs.profile import ColumnProfile, DatasetProfile
from storage.frozen_versions import frozen_dataset, frozen_version
from storage.repositories.jobs.pipelines import NewStep
from storage.tables import PipelineRow, PipelineStepRow
from tests.workers.harness import Harness


def register_inputs(harness: Harness) -> None:
    """Makes rows of the harness's model and data set: a pipeline's step holds what it reads."""
    if harness.model is None or harness.dataset is None:
        harness.prepare_inputs()
    model, data = harness.model, harness.dataset
    assert model is not None and data is not None
    column = ColumnProfile(kind="text", empty=0, distinct=2, longest_chars=30, mean_chars=20)
    with harness.database.unit_of_work() as work:
        owner = work.users.ensure("tester")
        manifest = Manifest(artifact="model", files=model.files)
        version = work.models.add_version(owner.id, model.name, manifest=manifest, prefix=model.prefix)
        rows = work.datasets.add_version(
            owner.id,
            data.name,
            version_id=data.version_id,
            file_name=data.file_name,
            key=data.key,
            bytes_total=data.bytes,
            sha256=data.sha256,
            profile=DatasetProfile(rows=1, columns={"text": column, "label": column}),
        )
        harness.model, harness.dataset = frozen_version(work, version), frozen_dataset(rows)


def job_step(
    harness: Harness, name: str, *needs: str, reads: str | None = None, training: Mapping[str, Any] | None = None
) -> NewStep:
    """A training; `reads`: the step whose model it begins with, the harness's model when absent."""
    model = harness.model if reads is None else None
    spec = {
        "kind": "train-classifier",
        "name": name,
        "model": "base@1" if reads is None else f"${reads}.model",
        "dataset": "rows@1",
        "text": "text",
        "label": "label",
        "training": dict(training or {}),
    }
    inputs = StepInputs(
        frozen=FrozenInputs(dataset=harness.dataset, model=model, checked=True),
        models={} if reads is None else {"model": reads},
    )
    every = needs if reads is None else (*needs, reads)
    return NewStep(name, "train-classifier", spec, None, every, inputs, memory_bytes=1 << 20)


def submit_pipeline(harness: Harness, name: str, steps: Sequence[NewStep], **document: Any) -> UUID:
    with harness.database.unit_of_work() as work:
        owner = work.users.ensure("tester")
        return work.pipelines.submit(owner.id, name, document, steps, request_sha256="0")[0].id


def wait_for_pipeline(harness: Harness, pipeline_id: UUID, seconds: float = 120.0) -> PipelineRow:
    """Until it has ended."""

    def row() -> PipelineRow:
        with harness.database.unit_of_work() as work:
            return work.session.get_one(PipelineRow, pipeline_id)

    def told() -> str:
        return str([(step.name, step.state, step.reason, step.message) for step in steps_of(harness, pipeline_id)])

    harness.until(lambda: row().finished_at is not None, seconds, told)
    return row()


def steps_of(harness: Harness, pipeline_id: UUID) -> Sequence[PipelineStepRow]:
    with harness.database.unit_of_work() as work:
        return work.pipelines.steps(pipeline_id)
