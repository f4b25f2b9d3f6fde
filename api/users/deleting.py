"""Deleting users. What they have passes to somebody or is deleted; nothing is left without an owner."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from uuid import UUID

from api.errors import ApiError
from api.parts import Parts
from api.references.uses import check_unused
from api.users.schemas import Leaving
from api.users.service import find_user
from jobspecs.problems import InvalidInput, Problem
from jobspecs.rights import Principal, Reach
from storage.database import UnitOfWork
from storage.repositories.people.handover import Clash, Things
from storage.tables import UserRow

log = logging.getLogger(__name__)

#: How each kind of clash is put out of the way.
_REMEDIES = {
    "data set": "Delete one of the two: eigenwerk datasets rm {name}",
    "model": "Delete one of the two: eigenwerk models rm {name}",
    "deployment": "Stop one of the two: eigenwerk undeploy {name}",
    "job": "Wait for its end, or cancel what runs: --cancel-jobs",
}


@dataclass(frozen=True)
class Wish:
    """What shall become of the user's things and jobs."""

    give_to: str | None = None
    delete_things: bool = False
    cancel_jobs: bool = False


def delete_user(parts: Parts, user: Principal, name: str, wish: Wish) -> Leaving | None:
    """Deletes the user in one transaction: entirely, or it says why not and changes nothing.

    Where things shall be deleted that a worker still runs or serves, their end and the tokens' is what the transaction
    brings about; the answer tells what is left, and the same call deletes the user once nothing is.
    """
    if wish.give_to is not None and wish.delete_things:
        message = "things pass to somebody or are deleted, not both."
        raise InvalidInput([Problem(field="delete_things", message=message, remedy="Leave one of the two out.")])
    reach = user.reach("users.delete")
    with parts.database.unit_of_work() as work:
        work.users.lock_for_deletion()
        row = find_user(work, reach, name)
        if not work.users.others_administrate(row.id):
            message = (
                f"{row.name} is the last administrator. Make another one first: eigenwerk tokens create --scope admin"
            )
            raise ApiError(409, message, code="last_administrator")
        if row is find_user(work, reach, "me"):
            # The tokens end before all else: nobody could ask for the rest.
            message = "Nobody deletes their own user. Ask another administrator to do it, with a token of their own."
            raise ApiError(409, message, code="own_user")
        if wish.give_to is not None:
            _give(work, reach, row, wish.give_to, user.actor if wish.cancel_jobs else None)
        elif wish.delete_things:
            for what, uses in work.removal.uses_by_others(row.id):
                check_unused(f"{row.name}'s {what}", uses)
            work.users.revoke_tokens(row.id)
            left = _stop(work, row, user.actor)
            if left is not None:
                return left
            work.handover.delete(row.id)
        else:
            _refuse_things(row.name, work.handover.things(row.id))
            # Names whose versions were all deleted, and imports that nobody completed.
            work.handover.delete(row.id)
        if not work.users.delete(row.id):
            raise ApiError(409, f"{row.name} made something at this moment. Ask again.", code="changed_meanwhile")
    log.info("%s deleted the user %s; things: %s", user.actor, row.name, wish)
    return None


def _give(work: UnitOfWork, reach: Reach, row: UserRow, to: str, canceller: str | None) -> None:
    taker = work.owners.find(reach, to)
    if taker is None or taker is row:
        message = f"there is no other owner {to}."
        raise InvalidInput([Problem(field="give_to", message=message, remedy="Name a user who stays.")])
    if canceller is not None:
        _cancel_jobs(work, row.id, canceller)
    clashes = work.handover.clashes(row.id, taker.id)
    if clashes:
        raise _clashing(row.name, to, clashes)
    work.handover.give(row.id, taker.id)


def _stop(work: UnitOfWork, row: UserRow, actor: str) -> Leaving | None:
    """Ends schedules, jobs and deployments; None when none is left that a worker must end first."""
    work.schedules.delete_of(row.id)
    _cancel_jobs(work, row.id, actor)
    own = Reach.of(row.id)
    for deployment in work.deployments.list(own):
        work.deployments.unwant(own, deployment.name)
    things = work.handover.things(row.id)
    if not things.active_jobs and not things.deployments:
        return None
    return Leaving(name=row.name, jobs=things.active_jobs, deployments=things.deployments)


def _cancel_jobs(work: UnitOfWork, owner_id: UUID, actor: str) -> None:
    work.pipelines.request_cancel_of(owner_id)
    work.sweeps.request_cancel_of(owner_id)
    for job_id in work.handover.active_jobs(owner_id):
        work.jobs.request_cancel(job_id, actor=actor)


def _refuse_things(name: str, things: Things) -> None:
    """Raises ApiError 409 when the user has anything."""
    if not things.any:
        return
    counts = {
        "jobs": things.jobs,
        "data sets": things.datasets,
        "models": things.models,
        "deployments": things.deployments,
    }
    has = ", ".join(f"{count:,} {noun}" for noun, count in counts.items() if count)
    message = f"{name} has {has}. Pass them on (--give-to NAME) or delete them (--delete-things)."
    raise ApiError(409, message, code="user_has_things")


def _clashing(giver: str, taker: str, clashes: list[Clash]) -> ApiError:
    problems = [
        Problem(
            message=f"{taker} has a {clash.name} that the job {clash.name} would add a version to."
            if clash.kind == "job"
            else f"{giver} and {taker} each have a {clash.kind} {clash.name}.",
            remedy=_REMEDIES[clash.kind].format(name=clash.name),
        )
        for clash in clashes
    ]
    told = " ".join(problem.message for problem in problems)
    return ApiError(409, f"Nothing was changed: {told}", code="names_clash", problems=problems)
