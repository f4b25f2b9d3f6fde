"""Deployments are desired state: this writes what is wanted, an inference worker makes it so and reports back."""

from __future__ import annotations

from api.authentication import Principal
from api.deployments.schemas import Deployment, DeploymentList, DeploymentRequest, deployment_of
from api.errors import not_found
from api.parts import Parts
from jobspecs.manifest import Manifest
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import Reference, parse_reference
from jobspecs.tasks import SERVED_TASKS
from scheduling.estimates import serving_memory_bytes
from storage.tables import DeploymentRow, ModelVersionRow

GIB = 1024**3


def want(parts: Parts, user: Principal, name: str, request: DeploymentRequest) -> Deployment:
    """Creates or changes the deployment. Asking for what is wanted already changes nothing, unless it had failed."""
    reference = parse_reference(request.model or name)
    with parts.database.unit_of_work() as work:
        found = reference.source == "registry" and reference.owner in (None, user.name)
        version = work.models.find(user.name, reference) if found else None
        if version is None:
            raise _refused(f"you have no model {reference} in the registry.", "`eigenwerk models` lists them.")
        _check_task(version, reference)
        memory_bytes = _memory_bytes(version, request)
        row = work.deployments.find(user.user_id, name, lock=True)
        if row is None or not _is_wanted_already(row, version, request, memory_bytes):
            row = work.deployments.want(
                user.user_id,
                name,
                model_version_id=version.id,
                engine=request.engine,
                replicas=request.replicas,
                memory_bytes=memory_bytes,
            )
        return deployment_of(row)


def list_deployments(parts: Parts, user: Principal) -> DeploymentList:
    with parts.database.unit_of_work() as work:
        return DeploymentList(data=[deployment_of(row) for row in work.deployments.list(user.user_id)])


def get(parts: Parts, user: Principal, name: str) -> Deployment:
    with parts.database.unit_of_work() as work:
        row = work.deployments.find(user.user_id, name)
        if row is None:
            raise not_found(f"deployment {name}")
        return deployment_of(row)


def unwant(parts: Parts, user: Principal, name: str) -> Deployment | None:
    """Asks for its end; None when it is gone at once because no worker held it."""
    with parts.database.unit_of_work() as work:
        if not work.deployments.unwant(user.user_id, name):
            raise not_found(f"deployment {name}")
        row = work.deployments.find(user.user_id, name)
        return deployment_of(row) if row is not None else None


def _check_task(version: ModelVersionRow, reference: Reference) -> None:
    task = Manifest.model_validate(version.manifest).task
    if task not in SERVED_TASKS:
        what = f"serves {task}" if task else "is a bare model without a head for a task"
        raise _refused(
            f"{reference} {what}; the embedded engine serves {', '.join(SERVED_TASKS)}.",
            "Train a model for one of these from it first: eigenwerk submit spec.yaml",
        )


def _memory_bytes(version: ModelVersionRow, request: DeploymentRequest) -> int:
    if request.memory_gib is not None:
        return int(request.memory_gib * GIB)
    return request.replicas * serving_memory_bytes(version.bytes)


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
