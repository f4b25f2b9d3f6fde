"""What the platform answers about models beyond their versions: aliases, lineage, comparisons."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from eigenwerk.resources.resource import Resource
from jobspecs.frozen import PipelineOrigin, ScheduleOrigin, SweepOrigin


class Alias(Resource):
    """What an alias means now; `left_behind`: your deployments that serve what it meant before."""

    alias: str
    version: int
    left_behind: list[str] = Field(default_factory=list)


class AliasMove(Resource):
    """`kind`: set, rollback or delete. A version of None: there was, or is then, no such alias."""

    kind: str
    version_from: int | None = None
    version_to: int | None = None
    #: Such as `user:ada`.
    actor: str
    reason: str | None = None
    #: Onto a version that was unverified.
    forced: bool = False
    at: datetime


class AliasHistory(Resource):
    """What an alias means now, None once it was deleted; and its moves, the newest first."""

    alias: str
    version: int | None = None
    moves: list[AliasMove]


class Difference(Resource):
    """A field of two specs, or an input, that is not the same."""

    field: str
    first: Any = None
    second: Any = None


class Figure(Resource):
    """A figure of two versions, each with its own interval where it has one."""

    name: str
    first: float | None = None
    first_low: float | None = None
    first_high: float | None = None
    second: float | None = None
    second_low: float | None = None
    second_high: float | None = None


class ChangedRow(Resource):
    """`row`: its number in the data set's file. Labels and what was said are those of a classifier."""

    row: int
    label: str | None = None
    first: float
    second: float
    first_said: str | None = None
    second_said: str | None = None


class RowByRow(Resource):
    """On the same rows: `difference` is second less first, with its paired 95 % interval; `better`: by the second."""

    measure: str
    units: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    better: int
    worse: int
    changed: list[ChangedRow] = Field(default_factory=list)


class ModelComparison(Resource):
    """Two versions; `why_not`: why there is no comparison row by row."""

    first: str
    second: str
    differences: list[Difference] = Field(default_factory=list)
    figures: list[Figure] = Field(default_factory=list)
    rows: RowByRow | None = None
    why_not: str | None = None


class Ancestor(Resource):
    """A model that was read, as it was called then. `standing`: here, hub or gone; `now`: its name here now."""

    role: str
    reference: str
    digest: str | None = None
    standing: str
    now: str | None = None
    parents: list[Ancestor] = Field(default_factory=list)


class AncestorData(Resource):
    """A data set that was read: `dataset` trained, `held_out` chose or judged, `test` judged."""

    role: str
    reference: str
    sha256: str | None = None
    standing: str


class Descendant(Resource):
    """A version that was made from this one."""

    role: str
    reference: str
    digest: str
    children: list[Descendant] = Field(default_factory=list)


class Served(Resource):
    name: str
    state: str


class ModelLineage(Resource):
    """What a version was made from, what was made from it, and your deployments that serve it."""

    reference: str
    digest: str
    job_id: str | None = None
    kind: str | None = None
    spec: dict[str, Any] | None = None
    #: The pipeline whose step that job was.
    pipeline: PipelineOrigin | None = None
    #: The sweep of which that job was a trial, or confirmed the winner.
    sweep: SweepOrigin | None = None
    #: The schedule that submitted it, or its pipeline, and the time that it was for.
    schedule: ScheduleOrigin | None = None
    #: Library -> version of what made it.
    code: dict[str, str] = Field(default_factory=dict)
    parents: list[Ancestor] = Field(default_factory=list)
    datasets: list[AncestorData] = Field(default_factory=list)
    children: list[Descendant] = Field(default_factory=list)
    deployments: list[Served] = Field(default_factory=list)
