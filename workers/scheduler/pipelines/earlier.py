"""Finds an earlier success that a step may be taken from: the same spec, inputs by digest, and code."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from jobspecs.frozen import FrozenInputs
from jobspecs.pipelines.frozen import StepOutput
from jobspecs.pipelines.reuse import fingerprint
from jobspecs.registry import parse_spec
from storage.database import UnitOfWork
from storage.tables import PipelineRow, PipelineStepRow
from workers.run.code_version import CODE, code_digest
from workers.scheduler.pipelines.outputs import code_of
from workers.scheduler.pipelines.starting import InputGone, inputs_of, told

#: So many of the owner's newest successes of that name are looked at.
_LOOKED_AT_MAX = 50


def earlier_success(
    work: UnitOfWork, row: PipelineRow, step: PipelineStepRow, outputs: Mapping[str, StepOutput]
) -> UUID | None:
    """The newest job that made what this step would make, and whose result is still there."""
    try:
        wanted = fingerprint(
            parse_spec(told(step, outputs)).model_dump(mode="json"), inputs_of(work, row, step, outputs)
        )
    except InputGone:
        return None
    for job in work.pipelines.successes(row.owner_id, step.kind, step.spec["name"], limit=_LOOKED_AT_MAX):
        same = fingerprint(job.spec, FrozenInputs.model_validate(job.inputs)) == wanted
        if same and code_of(work, job.id).get(CODE) == code_digest():
            return job.id
    return None
