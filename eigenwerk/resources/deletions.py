"""What the platform answers when something is deleted."""

from __future__ import annotations

from pydantic import Field

from eigenwerk.resources.resource import Resource


class JobNamed(Resource):
    id: str
    name: str


class Deleted(Resource):
    """What is gone: references of versions, or the id of a job; and the stored bytes that are freed."""

    deleted: list[str]
    bytes: int
    #: Jobs that failed or were cancelled, and can't go on from their checkpoints any more.
    retries_lost: list[JobNamed] = Field(default_factory=list)
