"""Begins a step: a job is queued, a deployment wanted, an alias moved, each by the rules that hold for people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from jobspecs.frozen import (
    FrozenDataset,
    FrozenHubModel,
    FrozenInputs,
    FrozenModel,
    FrozenRegistryModel,
    PipelineOrigin,
)
from jobspecs.kinds.base import ADAPTER_BASE_SUFFIX, BASE_ROLE
from jobspecs.lifecycle import TERMINAL, JobState
from jobspecs.manifest import Manifest
from jobspecs.pipelines.frozen import StepInputs, StepOutput
from jobspecs.pipelines.lifecycle import StepReason, StepState
from jobspecs.pipelines.references import StepReference, substituted
from jobspecs.pipelines.steps import AliasStep, DeployStep, adapter_role
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import Reference
from jobspecs.registry import parse_spec
from jobspecs.rights import Reach
from scheduling.estimates.engine_memory import ServedModel, engine_memory, why_not_declared
from scheduling.estimates.estimating import TYPICAL_WEIGHTS_BYTES
from scheduling.estimates.serving import adapter_bytes
from scheduling.estimates.shapes import ModelShape
from scheduling.pipelines import Seen, told_figures
from storage.database import UnitOfWork
from storage.frozen_versions import frozen_base, frozen_dataset, frozen_version, weights_bytes
from storage.repositories.registry.aliases import Unverified
from storage.serving import Wish, check_task, choose, serve, why_not_beside
from storage.tables import JobRow, ModelVersionRow, PipelineRow, PipelineStepRow
from workers.scheduler.pipelines.outputs import output_of

_GIB = 2**30
_SHAPE = TypeAdapter(ModelShape)

Outputs = Mapping[str, StepOutput]


class InputGone(Exception):
    """What the step should read was deleted. The message is for people."""


def begin(work: UnitOfWork, row: PipelineRow, step: PipelineStepRow, outputs: Outputs, figures: Seen) -> None:
    """Begins the step within the caller's transaction. Raises InvalidInput as a request would, and InputGone."""
    _BEGIN.get(step.kind, _begin_job)(work, row, step, outputs, figures)


def take_earlier(work: UnitOfWork, step: PipelineStepRow, job_id: UUID, figures: Seen) -> None:
    """The step succeeds with what an earlier job made."""
    made = output_of(work, job_id)
    if made is not None:
        told = f"Taken from job {job_id}: same spec, inputs and code."
        work.pipelines.move(
            step,
            StepState.succeeded,
            reason=StepReason.reused,
            message=told,
            figures=figures,
            output=made,
            job_id=job_id,
        )


def _begin_job(work: UnitOfWork, row: PipelineRow, step: PipelineStepRow, outputs: Outputs, figures: Seen) -> None:
    failed = _failed_job(work, step)
    if failed is not None:
        spec, inputs = failed.spec, FrozenInputs.model_validate(failed.inputs)
    else:
        spec = parse_spec(told(step, outputs)).model_dump(mode="json")
        origin = PipelineOrigin(id=row.id, name=row.name, step=step.name)
        inputs = inputs_of(work, row, step, outputs).model_copy(update={"pipeline": origin})
    if not work.removal.hold(inputs):
        raise InputGone("A model or data set that it should read was deleted.")
    resources = parse_spec(spec).resources
    job, _ = work.jobs.submit(
        row.owner_id,
        actor=f"pipeline:{row.name}",
        spec=spec,
        inputs=inputs.model_dump(mode="json"),
        slots=1,
        memory_bytes=step.memory_bytes,
        gpus=resources.gpus,
        max_runtime_s=resources.max_runtime.total_seconds(),
        request_sha256=_sha256_of(spec),
        warnings=step.warnings,
        retry_of=failed.id if failed is not None else None,
    )
    if failed is not None:
        work.checkpoints.adopt(failed.id, job.id)
    work.pipelines.move(step, StepState.running, figures=figures, job_id=job.id)


def _failed_job(work: UnitOfWork, step: PipelineStepRow) -> JobRow | None:
    """The job that the step ran before it was retried, locked: it is gone on from."""
    if step.job_id is None:
        return None
    work.removal.uses_of_job(step.job_id)
    job = work.jobs.get(step.job_id)
    ended = job is not None and JobState(job.state) in TERMINAL and job.state != JobState.succeeded
    return job if ended else None


def told(step: PipelineStepRow, outputs: Outputs) -> dict[str, Any]:
    """The step's spec with what its references mean."""
    spec: dict[str, Any] = substituted(step.spec, _meaning(outputs))
    return spec


def inputs_of(work: UnitOfWork, row: PipelineRow, step: PipelineStepRow, outputs: Outputs) -> FrozenInputs:
    """All that the step reads, frozen. Raises InputGone."""
    wanted, reach = StepInputs.model_validate(step.inputs), Reach.of(row.owner_id).with_shared
    models = {name: _model(work, reach, outputs[name]) for name in {*wanted.models.values()}}
    datasets = {name: _dataset(work, outputs[name]) for name in {*wanted.datasets.values()}}
    return wanted.complete(models, datasets)


def _meaning(outputs: Outputs) -> Callable[[StepReference], str]:
    return lambda reference: outputs[reference.step].reference


def _model(work: UnitOfWork, reach: Reach, output: StepOutput) -> tuple[FrozenModel, FrozenModel | None]:
    version = work.models.get_version_or_none(output.version_id)
    if version is None:
        raise InputGone(f"{output.reference} was deleted.")
    base = Manifest.model_validate(version.manifest).base
    return frozen_version(work, version), frozen_base(work, reach, base) if base is not None else None


def _dataset(work: UnitOfWork, output: StepOutput) -> FrozenDataset:
    version = work.datasets.get_version_or_none(output.version_id)
    if version is None:
        raise InputGone(f"{output.reference} was deleted.")
    return frozen_dataset(version)


def _begin_deployment(
    work: UnitOfWork, row: PipelineRow, step: PipelineStepRow, outputs: Outputs, figures: Seen
) -> None:
    spec = DeployStep.model_validate(told(step, outputs))
    inputs = inputs_of(work, row, step, outputs)
    version = _held_version(work, inputs)
    manifest = Manifest.model_validate(version.manifest)
    check_task(manifest, _reference_of(version))
    shape = StepInputs.model_validate(step.inputs).serving
    adapters = _adapters(work, row, spec, inputs, manifest)
    wish = Wish(
        engine=spec.engine,
        replicas=spec.replicas,
        hosts=spec.hosts,
        gpus=spec.gpus,
        memory_bytes=0,
        idle_after_s=spec.idle_after_s,
        context_tokens=spec.context_tokens,
        sequences=spec.sequences,
        adapter_ids=frozenset(adapters),
    )
    hosts = [frozenset(host.engines) for host in work.hosts.known()]
    engine = choose(manifest, wish, -(-spec.replicas // spec.hosts), hosts).engine.name
    model = ServedModel(manifest, _bytes_of_base(inputs), _SHAPE.validate_python(shape) if shape is not None else None)
    declared = {"context_tokens": spec.context_tokens, "sequences": spec.sequences}
    if problem := why_not_declared(engine, model, **declared):
        raise InvalidInput([problem])
    each = engine_memory(engine, model, on_gpu=spec.gpus > 0, **declared).beside(sum(adapters.values()))
    if spec.memory_gib is None:
        memory_bytes = spec.replicas * each.memory_bytes
    else:
        memory_bytes = int(spec.memory_gib * _GIB)
        each = each.within(memory_bytes // spec.replicas)
    wish = replace(wish, memory_bytes=memory_bytes, memory=each)
    shares = serve(work, Reach.of(row.owner_id), row.owner_id, Reference(name=spec.name), version, wish)
    work.pipelines.move(step, StepState.running, figures=figures, deployment_id=shares[0].id)


def _adapters(
    work: UnitOfWork, row: PipelineRow, spec: DeployStep, inputs: FrozenInputs, base: Manifest
) -> dict[UUID, int]:
    """Versions that are served beside the model, and the main memory of each in bytes.

    Where the step names none these are the ones that the deployment serves now, as far as they are of this model.
    Raises InvalidInput for one that is of another model, InputGone.
    """
    if spec.adapters is None:
        now = work.deployments.find(Reach.of(row.owner_id), spec.name)
        served = now.adapters if now is not None and now.wanted else ()
        named = [
            one for one in served if why_not_beside(one.full_name, Manifest.model_validate(one.manifest), base) is None
        ]
    else:
        named = []
        for number in range(len(spec.adapters)):
            version = _held(work, inputs.by_role()[adapter_role(number)])
            problem = why_not_beside(version.full_name, Manifest.model_validate(version.manifest), base)
            if problem is not None:
                raise InvalidInput([problem.model_copy(update={"field": adapter_role(number)})])
            named.append(version)
    return {one.id: adapter_bytes(Manifest.model_validate(one.manifest).bytes_total) for one in named}


def _bytes_of_base(inputs: FrozenInputs) -> int:
    base = inputs.models.get(BASE_ROLE + ADAPTER_BASE_SUFFIX)
    if base is None:
        return 0
    return TYPICAL_WEIGHTS_BYTES if isinstance(base, FrozenHubModel) else weights_bytes(base)


def _move_alias(work: UnitOfWork, row: PipelineRow, step: PipelineStepRow, outputs: Outputs, figures: Seen) -> None:
    spec = AliasStep.model_validate(told(step, outputs))
    version = _held_version(work, inputs_of(work, row, step, outputs))
    if not Reach.of(row.owner_id).includes(version.model):
        message = f"{_reference_of(version)} is another owner's, and so are its aliases."
        raise InvalidInput([Problem(field="model", message=message, remedy="Name a model of yours.")])
    why = spec.reason or (told_figures(figures) if figures else None)
    actor = f"pipeline:{row.name}"
    why = why[:500] if why else None
    try:
        work.aliases.set(version.model_id, spec.alias, version.version, actor=actor, reason=why, force=spec.force)
    except Unverified as error:
        remedy = "Read its card, and write force: true if the alias shall move all the same."
        raise InvalidInput([Problem(field="model", message=str(error), remedy=remedy)]) from error
    work.pipelines.move(step, StepState.succeeded, figures=figures)


def _held_version(work: UnitOfWork, inputs: FrozenInputs) -> ModelVersionRow:
    """The registered version that a deployment or alias is about; it stays until the transaction has ended."""
    return _held(work, inputs.model)


def _held(work: UnitOfWork, model: FrozenModel | None) -> ModelVersionRow:
    version = work.models.get_version_or_none(model.version_id) if isinstance(model, FrozenRegistryModel) else None
    if version is None or not work.models.hold(version.id):
        raise InputGone("The model that it names was deleted.")
    return version


def _reference_of(version: ModelVersionRow) -> Reference:
    return Reference(owner=version.model.owner.name, name=version.model.name, version=version.version)


def _sha256_of(spec: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


_BEGIN: Mapping[str, Callable[[UnitOfWork, PipelineRow, PipelineStepRow, Outputs, Seen], None]] = {
    "deploy": _begin_deployment,
    "alias": _move_alias,
}
