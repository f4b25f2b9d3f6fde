"""The shapes of aliases in answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from storage.tables import ModelAliasMoveRow

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class AliasTarget(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: int = Field(ge=1, lt=2**31)
    reason: Reason | None = Field(default=None, description="why it moves, for its history")
    force: bool = Field(default=False, description="even onto a version that is unverified; its history keeps it")


class RollBack(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: Reason | None = Field(default=None, description="why it goes back, for its history")
    force: bool = Field(default=False, description="even onto a version that is unverified; its history keeps it")


class AliasMove(BaseModel):
    """`set`, `rollback` or `delete`. The last of the versions is null where the alias was deleted."""

    kind: str
    version_from: int | None
    version_to: int | None
    #: Such as `user:ada`.
    actor: str
    reason: str | None
    #: Onto a version that was unverified.
    forced: bool
    at: datetime


class Alias(BaseModel):
    object: Literal["model.alias"] = "model.alias"
    alias: str
    version: int
    #: Your deployments that serve the version that it meant before: a deployment keeps the version that it was given.
    left_behind: list[str] = []


class AliasHistory(BaseModel):
    """`version`: what it means now; null once it was deleted."""

    object: Literal["model.alias.history"] = "model.alias.history"
    alias: str
    version: int | None
    #: The newest first. Moves from before they were written down are missing.
    moves: list[AliasMove]


def moves_of(rows: Sequence[ModelAliasMoveRow]) -> list[AliasMove]:
    return [
        AliasMove(
            kind=row.kind,
            version_from=row.version_from,
            version_to=row.version_to,
            actor=row.actor,
            reason=row.reason,
            forced=row.forced,
            at=row.at,
        )
        for row in reversed(rows)
    ]
