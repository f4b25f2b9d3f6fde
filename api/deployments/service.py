"""Deployments are desired state: this writes what is wanted, an inference worker makes it so and reports back."""

from __future__ import annotations

from api.deployments.schemas import Deployment, DeploymentList, DeploymentRequest, deployment_of
from api.errors import not_found
from api.parts import Parts
from api.references.freezing import freeze_base, weights_bytes
from api.references.hub import resolve
from jobspecs.frozen import FrozenRegistryModel
from jobspecs.manifest import Manifest
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import Reference, parse_reference
from jobspecs.rights import Principal
from jobspecs.tasks import SERVED_TASKS
from scheduling.estimates.estimating import TYPICAL_WEIGHTS_BYTES
from scheduling.estimates.serving import serving_memory_bytes
from storage.database import UnitOfWork
from storage.tables import DeploymentRow, ModelVersionRow

GIB = 1024**3


def want(parts: Parts, user: Principal, name: str, request: DeploymentRequest) -> Deployment:
    """Creates or changes the deployment. Asking for what is wanted already changes nothing, unless it had failed."""
    reference = parse_reference(request.model or name)
    hub_bytes = _hub_base_bytes(parts, user, reference) if request.memory_gib is None else 0
    with parts.database.unit_of_work() as work:
        version = _version(work, user, reference)
        manifest = Manifest.model_validate(version.manifest)
        _check_task(manifest, reference)
        base_bytes = _base_bytes(work, user, reference, manifest)
        if not work.models.hold(version.id):
            raise _refused(f"{reference} was deleted meanwhile.", "`eigenwerk models` lists what you have.")
        memory_bytes = _memory_bytes(version.bytes + base_bytes + hub_bytes, request)
        row = work.deployments.find(user.reach("deployments.write"), name, lock=True)
        if row is None or not _is_wanted_already(row, version, request, memory_bytes):
            row = work.deployments.want(
                user.reach("deployments.write").maker,
                name,
                model_version_id=version.id,
                engine=request.engine,
                replicas=request.replicas,
                memory_bytes=memory_bytes,
            )
        return deployment_of(row)


def list_deployments(parts: Parts, user: Principal) -> DeploymentList:
    with parts.database.unit_of_work() as work:
        return DeploymentList(
            data=[deployment_of(row) for row in work.deployments.list(user.reach("deployments.read"))]
        )


def get(parts: Parts, user: Principal, name: str) -> Deployment:
    with parts.database.unit_of_work() as work:
        row = work.deployments.find(user.reach("deployments.read"), name)
        if row is None:
            raise not_found(f"deployment {name}")
        return deployment_of(row)


def unwant(parts: Parts, user: Principal, name: str) -> Deployment | None:
    """Asks for its end; None when it is gone at once because no worker held it."""
    reach = user.reach("deployments.write")
    with parts.database.unit_of_work() as work:
        if not work.deployments.unwant(reach, name):
            raise not_found(f"deployment {name}")
        row = work.deployments.find(reach, name)
        return deployment_of(row) if row is not None else None


def _version(work: UnitOfWork, user: Principal, reference: Reference) -> ModelVersionRow:
    version = work.models.find(user.reach("models.read"), reference) if reference.source == "registry" else None
    if version is None:
        raise _refused(f"you have no model {reference} in the registry.", "`eigenwerk models` lists them.")
    return version


def _check_task(manifest: Manifest, reference: Reference) -> None:
    if manifest.task not in SERVED_TASKS:
        what = f"serves {manifest.task}" if manifest.task else "is a bare model without a head for a task"
        raise _refused(
            f"{reference} {what}; the embedded engine serves {', '.join(SERVED_TASKS)}.",
            "Train a model for one of these from it first: eigenwerk submit spec.yaml",
        )


def _hub_base_bytes(parts: Parts, user: Principal, reference: Reference) -> int:
    """Weights of the hub's model that an adapter changes; 0 for any other model. Asks the hub outside transactions."""
    with parts.database.unit_of_work() as work:
        base = Manifest.model_validate(_version(work, user, reference).manifest).base
    if base is None or base.digest is not None:
        return 0
    return resolve(parts.hub, parts.settings, parse_reference(base.reference)).weights_bytes or TYPICAL_WEIGHTS_BYTES


def _base_bytes(work: UnitOfWork, user: Principal, reference: Reference, manifest: Manifest) -> int:
    """Of the registered model that an adapter changes. Raises InvalidInput when it is gone."""
    if manifest.base is None:
        return 0
    base = freeze_base(work, user, "model", reference, manifest.base)
    return weights_bytes(base) if isinstance(base, FrozenRegistryModel) else 0


def _memory_bytes(weights: int, request: DeploymentRequest) -> int:
    if request.memory_gib is not None:
        return int(request.memory_gib * GIB)
    return request.replicas * serving_memory_bytes(weights)


def _is_wanted_already(
    row: DeploymentRow, version: ModelVersionRow, request: DeploymentRequest, memory_bytes: int
) -> bool:
    same = (row.model_version_id, row.engine, row.replicas, row.memory_bytes) == (
        version.id,
        request.engine,
        request.replicas,
        memory_bytes,
    )
    return same and row.wanted and row.state != "failed"


def _refused(message: str, remedy: str) -> InvalidInput:
    return InvalidInput([Problem(field="model", message=message, remedy=remedy)])
