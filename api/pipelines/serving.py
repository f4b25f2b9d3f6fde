"""Steps that put a model into production: what they read, and whether they could do it by hand."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict

from api.parts import Parts
from api.pipelines.expecting import Expected
from api.references.freezing import freeze_model
from api.references.model_files import known_shape, small_files
from jobspecs.frozen import FrozenInputs, FrozenModel
from jobspecs.kinds.base import BASE_ROLE
from jobspecs.manifest import Manifest
from jobspecs.pipelines.frozen import StepInputs
from jobspecs.pipelines.steps import AliasStep, DeployStep, adapter_role
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import parse_reference
from jobspecs.rights import Principal
from scheduling.estimates.serving import adapter_bytes, depends_on_shape, encoder_bytes
from scheduling.serving_admission import Needs, why_no_host_serves
from storage.frozen_versions import frozen_version
from storage.serving import check_task, why_not_beside

GIB = 1024**3


def prepare_deployment(
    parts: Parts, user: Principal, spec: DeployStep, stand_in: Expected | None, left_open: Collection[str]
) -> tuple[StepInputs, int]:
    """What the step reads, and the least main memory that it takes in bytes. `stand_in`: for the model that a step will
    make; `left_open`: the roles of all that steps will make.

    Raises InvalidInput for what can't be served, and for what no host has room for.
    """
    if stand_in is None:
        inputs, manifest = _registered(parts, user, spec.model)
        served = inputs.by_role().get(f"{BASE_ROLE}.base") or inputs.model
    else:
        inputs, manifest, served = FrozenInputs(), None, stand_in.model
    adapters, adapters_bytes = _adapters(parts, user, spec, manifest, left_open)
    inputs = inputs.model_copy(update={"models": {**inputs.models, **adapters}})
    shape = None
    if served is not None and (manifest is None or depends_on_shape(manifest)):
        objects = parts.objects.within(parts.settings.check_seconds_max)
        shape = known_shape(parts, small_files(parts, objects, served))
    if spec.memory_gib is not None:
        memory_bytes = int(spec.memory_gib * GIB)
    else:
        stored = stand_in.weights_bytes if stand_in is not None else manifest.bytes_total if manifest is not None else 0
        memory_bytes = spec.replicas * (encoder_bytes(stored) + adapters_bytes)
    with parts.database.unit_of_work() as work:
        hosts = [Needs(host.memory_bytes, host.gpus) for host in work.hosts.known()]
    share = Needs(memory_bytes // spec.hosts, -(-spec.gpus // spec.hosts))
    if problem := why_no_host_serves(share, hosts):
        raise InvalidInput([problem])
    return StepInputs(frozen=inputs, serving=asdict(shape) if shape is not None else None), memory_bytes


def _registered(parts: Parts, user: Principal, text: str) -> tuple[FrozenInputs, Manifest]:
    reference = parse_reference(text)
    with parts.database.unit_of_work() as work:
        _refuse_hub(reference.source)
        found = freeze_model(work, user, BASE_ROLE, reference).frozen
        row = work.models.find(user.reach("models.read"), reference)
        manifest = Manifest.model_validate(row.manifest if row is not None else {})
        check_task(manifest, reference)
    return FrozenInputs(model=found.pop(BASE_ROLE), models=found), manifest


def _adapters(
    parts: Parts, user: Principal, spec: DeployStep, base: Manifest | None, left_open: Collection[str]
) -> tuple[dict[str, FrozenModel], int]:
    """Those that are registered, by role, and the main memory that they take in bytes. Raises InvalidInput."""
    found: dict[str, FrozenModel] = {}
    bytes_total, problems = 0, []
    with parts.database.unit_of_work() as work:
        for number, text in enumerate(spec.adapters or ()):
            role, reference = adapter_role(number), parse_reference(text)
            if role in left_open:
                continue
            known = reference.source == "registry"
            row = work.models.find(user.reach("models.read"), reference) if known else None
            adapter = Manifest.model_validate(row.manifest) if row is not None else None
            if (problem := why_not_beside(text, adapter, base)) is not None:
                problems.append(problem.model_copy(update={"field": role}))
            elif row is not None and adapter is not None:
                found[role] = frozen_version(work, row)
                bytes_total += adapter_bytes(adapter.bytes_total)
    if problems:
        raise InvalidInput(problems)
    return found, bytes_total


def prepare_alias(parts: Parts, user: Principal, spec: AliasStep, *, is_made: bool) -> FrozenInputs:
    """What the step reads. `is_made`: by a step, so it is the user's own. Raises InvalidInput for another's model."""
    if is_made:
        return FrozenInputs()
    reference = parse_reference(spec.model)
    _refuse_hub(reference.source)
    with parts.database.unit_of_work() as work:
        if work.models.find(user.reach("models.write"), reference) is None:
            message = f"you have no model {reference} of your own, whose aliases you may move."
            raise InvalidInput([Problem(field="model", message=message, remedy="`eigenwerk models` lists yours.")])
        found = freeze_model(work, user, BASE_ROLE, reference).frozen
        return FrozenInputs(model=found.pop(BASE_ROLE), models=found)


def _refuse_hub(source: str) -> None:
    if source == "hub":
        remedy = "Import it first, with a step of the kind import-model: model: $import.model"
        raise InvalidInput([Problem(field="model", message="it is of a hub and not registered here.", remedy=remedy)])
