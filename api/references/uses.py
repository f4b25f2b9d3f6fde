"""What is deleted must not be in use: who uses it, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel

from api.errors import ApiError
from jobspecs.problems import Problem
from storage.repositories.registry.removal import Use

#: So many uses are told; there may be thousands of jobs.
_TOLD_MAX = 10
#: kind -> what is said of one's own, and of another's, which is not named: it is no business of whoever asks.
_WORDS = {
    "job": ("the job {name} reads it", "Wait for the job, or cancel it: eigenwerk cancel {name}"),
    "pipeline": (
        "the pipeline {name} reads or made it",
        "Wait for its end, or cancel it: eigenwerk pipelines cancel {name}",
    ),
    "sweep": ("trials of the sweep {name} read it", "Wait for its end, or cancel it: eigenwerk sweeps cancel {name}"),
    "batch": ("the batch {name} reads it", "Wait for its end, or cancel it"),
    "deployment": ("the deployment {name} serves it", "Stop it first: eigenwerk undeploy {name}"),
    "adapter": ("the adapter {name} needs it as its base", "Delete that first: eigenwerk models rm {name}"),
    "alias": ("the alias {name} points at it", "Point it at another version first: eigenwerk models alias"),
}
_OTHERS_WORDS = {
    "job": "a job of {owner} reads it",
    "pipeline": "a pipeline of {owner} reads it",
    "sweep": "a sweep of {owner} reads it",
    "batch": "a batch of {owner} reads it",
    "deployment": "a deployment of {owner} serves it",
    "adapter": "an adapter of {owner} needs it as its base",
}


class JobNamed(BaseModel):
    id: UUID
    name: str


class Deleted(BaseModel):
    """What is gone. Its bytes are freed within a minute, once no transaction can need them."""

    object: Literal["deleted"] = "deleted"
    #: `owner/name@version` of each version, or the id of the job.
    deleted: list[str]
    #: Stored bytes that are freed.
    bytes: int
    #: Jobs that failed or were cancelled and could go on from a checkpoint, which needs what is gone.
    retries_lost: list[JobNamed] = []


DryRun = Annotated[bool, Query(description="delete nothing; answer what would be gone")]


def lost(retries: Sequence[tuple[UUID, str]]) -> list[JobNamed]:
    return [JobNamed(id=job_id, name=name) for job_id, name in retries]


def check_unused(what: str, uses: Sequence[Use]) -> None:
    """Raises ApiError 409 with what uses it and what can be done."""
    if not uses:
        return
    problems = []
    for use in uses[:_TOLD_MAX]:
        if use.owner is None:
            message, remedy = (words.format(name=use.name) for words in _WORDS[use.kind])
        else:
            message, remedy = _OTHERS_WORDS[use.kind].format(owner=use.owner), f"Ask {use.owner} to end that first"
        of = f"version {use.version}: " if use.version is not None else ""
        problems.append(Problem(message=f"{of}{message}.", remedy=remedy))
    more = f" (and {len(uses) - _TOLD_MAX} more)" if len(uses) > _TOLD_MAX else ""
    told = " ".join(str(problem) for problem in problems)
    raise ApiError(409, f"{what} is in use, nothing was deleted: {told}{more}", code="in_use", problems=problems)
