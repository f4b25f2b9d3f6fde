"""New versions that take a share of a deployment's requests first: candidates, and what becomes of them."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from api.deployments.schemas import Deployment, deployment_of
from api.errors import ApiError, not_found
from api.parts import Parts
from api.references.places import why_it_waits
from jobspecs.engines import task_of
from jobspecs.manifest import Manifest
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import Reference
from jobspecs.rights import Principal, Reach
from storage.database import UnitOfWork
from storage.repositories.serving.candidates import candidate_name
from storage.serving import Wish, serve
from storage.tables import DeploymentRow, ModelVersionRow


def shown(work: UnitOfWork, row: DeploymentRow) -> Deployment:
    """The deployment with its candidate, how both have answered, and why it waits. `row`: its first share."""
    counted, shares = work.answers.of(row.owner_id, row.name), work.deployments.shares(row)
    waiting = (why_it_waits(work, share) for share in shares if share.wanted)
    why = next((why for why in waiting if why is not None), None)
    return deployment_of(shares, work.candidates.of(row), counted, why)


def want_candidate(
    work: UnitOfWork,
    reach: Reach,
    maker: UUID,
    reference: Reference,
    version: ModelVersionRow,
    wish: Wish,
    percent: int,
) -> Deployment:
    """Serves the version beside the deployment. Raises InvalidInput where there is none to compare it with."""
    row = work.deployments.find(reach, reference.name, owner=reference.owner, lock=True)
    if row is None or not row.wanted:
        raise _refused(f"there is no deployment {reference} whose requests it could share.", "Leave it out.")
    if row.model_version_id == version.id:
        raise _refused(f"{reference} serves this version already.", "Name another one: --model NAME@V")
    task = task_of(Manifest.model_validate(version.manifest))
    if task != row.served_task:
        raise _refused(f"{reference} serves {row.served_task}, and this version {task}.", "Deploy it by another name.")
    before = work.candidates.of(row)
    if not before or before[0].model_version_id != version.id:
        # Of both from now on: what they are compared by.
        work.answers.forget(row.owner_id, row.name)
    beside = Reference(owner=reference.owner, name=candidate_name(reference.name))
    # Both sleep and wake together.
    serve(work, reach, maker, beside, version, replace(wish, idle_after_s=row.idle_after_s))
    work.candidates.set_traffic(row.owner_id, row.name, percent)
    work.session.expire_all()
    return shown(work, row)


def set_traffic(parts: Parts, user: Principal, reference: Reference, percent: int) -> Deployment:
    """Takes effect with the next request. Raises ApiError 404 without a candidate."""
    with parts.database.unit_of_work() as work:
        row = _with_candidate(work, user, reference)
        work.candidates.set_traffic(row.owner_id, row.name, percent)
        work.session.expire_all()
        return shown(work, row)


def promote(parts: Parts, user: Principal, reference: Reference) -> Deployment:
    """The candidate gets all requests, and what was deployed until now ends. Raises ApiError 404 without one, and 409
    while nothing of it answers.
    """
    with parts.database.unit_of_work() as work:
        row = _with_candidate(work, user, reference)
        candidate = work.candidates.of(row)
        if not any(share.state == "ready" for share in candidate):
            told = candidate[0].message or candidate[0].state
            message = f"{candidate[0].served} does not answer yet ({told}). Wait until it is ready, or roll back."
            raise ApiError(409, message, code="candidate_not_ready")
        owner_id, name = row.owner_id, row.name
        work.candidates.promote(owner_id, name)
        promoted = work.deployments.find(Reach.of(owner_id), name)
        if promoted is None:
            raise not_found(f"deployment {reference}")
        return shown(work, promoted)


def roll_back(parts: Parts, user: Principal, reference: Reference) -> Deployment:
    """Ends the candidate; the deployment answers all requests. Raises ApiError 404 without one."""
    with parts.database.unit_of_work() as work:
        row = _with_candidate(work, user, reference)
        work.deployments.unwant(Reach.of(row.owner_id), candidate_name(row.name))
        return shown(work, row)


def _with_candidate(work: UnitOfWork, user: Principal, reference: Reference) -> DeploymentRow:
    """The deployment, locked; it has a candidate."""
    reach = user.reach("deployments.write")
    row = work.deployments.find(reach, reference.name, owner=reference.owner, lock=True)
    if row is None or not row.wanted:
        raise not_found(f"deployment {reference}")
    if not work.candidates.of(row):
        message = f"{reference} has no candidate. Deploy one: eigenwerk deploy {reference} --model NAME@V --traffic 10%"
        raise ApiError(404, message, code="no_candidate")
    return row


def _refused(message: str, remedy: str) -> InvalidInput:
    return InvalidInput([Problem(field="traffic_percent", message=message, remedy=remedy)])
