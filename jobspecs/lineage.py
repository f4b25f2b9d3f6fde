"""What a model version was made from and by: kept with it, also when the job, its data or its base are gone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from jobspecs.frozen import FrozenInputs, PipelineOrigin, ScheduleOrigin, SweepOrigin, origin_of
from jobspecs.kinds.base import BASE_ROLE
from jobspecs.manifest import DatasetOrigin, Manifest, ModelOrigin


class ModelParent(ModelOrigin):
    """A model that was read, as it was called then. `role`: `model` is the one that training began with."""

    role: str


class DatasetParent(DatasetOrigin):
    """A data set that was read. `role`: `dataset` trained, `held_out` chose or judged, `test` judged."""

    role: str


class Lineage(BaseModel):
    """`kind` and `spec` of the job; none for an import."""

    model_config = ConfigDict(frozen=True)

    kind: str | None = None
    spec: dict[str, Any] | None = None
    models: tuple[ModelParent, ...] = ()
    datasets: tuple[DatasetParent, ...] = ()
    #: The pipeline whose step the job was.
    pipeline: PipelineOrigin | None = None
    #: The sweep of which it was a trial, or confirmed the winner.
    sweep: SweepOrigin | None = None
    #: The schedule that submitted the job or the pipeline.
    schedule: ScheduleOrigin | None = None

    @classmethod
    def of_job(cls, kind: str, spec: Mapping[str, Any], inputs: FrozenInputs) -> Lineage:
        models = {role: origin_of(model) for role, model in inputs.by_role().items()}
        datasets = {role: dataset.origin for role, dataset in inputs.datasets_by_role().items()}
        return cls(
            kind=kind,
            spec=dict(spec),
            models=tuple(ModelParent(role=role, **origin.model_dump()) for role, origin in models.items()),
            datasets=tuple(DatasetParent(role=role, **origin.model_dump()) for role, origin in datasets.items()),
            pipeline=inputs.pipeline,
            sweep=inputs.sweep,
            schedule=inputs.schedule,
        )

    @classmethod
    def of_manifest(cls, manifest: Manifest) -> Lineage:
        """What an artifact from elsewhere tells itself: an adapter its base."""
        if manifest.base is None:
            return cls()
        return cls(models=(ModelParent(role=BASE_ROLE, **manifest.base.model_dump()),))
