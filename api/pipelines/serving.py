"""Steps that put a model into production: what they read, and whether they could do it by hand."""

from __future__ import annotations

from dataclasses import asdict

from api.parts import Parts
from api.pipelines.expecting import Expected
from api.references.freezing import freeze_model
from api.references.model_files import known_shape, small_files
from jobspecs.frozen import FrozenInputs
from jobspecs.kinds.base import BASE_ROLE
from jobspecs.manifest import Manifest
from jobspecs.pipelines.frozen import StepInputs
from jobspecs.pipelines.steps import AliasStep, DeployStep
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import parse_reference
from jobspecs.rights import Principal
from scheduling.estimates.serving import depends_on_shape, encoder_bytes
from scheduling.serving_admission import Needs, why_no_host_serves
from storage.serving import check_task

GIB = 1024**3


def prepare_deployment(
    parts: Parts, user: Principal, spec: DeployStep, stand_in: Expected | None
) -> tuple[StepInputs, int]:
    """What the step reads, and the least main memory that it takes in bytes. `stand_in`: for what a step will make.

    Raises InvalidInput for what can't be served, and for what no host has room for.
    """
    if stand_in is None:
        inputs, manifest = _registered(parts, user, spec.model)
        served = inputs.by_role().get(f"{BASE_ROLE}.base") or inputs.model
    else:
        inputs, manifest, served = FrozenInputs(), None, stand_in.model
    shape = None
    if served is not None and (manifest is None or depends_on_shape(manifest)):
        objects = parts.objects.within(parts.settings.check_seconds_max)
        shape = known_shape(parts, small_files(parts, objects, served))
    if spec.memory_gib is not None:
        memory_bytes = int(spec.memory_gib * GIB)
    else:
        stored = stand_in.weights_bytes if stand_in is not None else manifest.bytes_total if manifest is not None else 0
        memory_bytes = spec.replicas * encoder_bytes(stored)
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
