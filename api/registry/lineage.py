"""What a version was made from, what was made from it, and where it serves: as far as the user may read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel

from api.parts import Parts
from api.registry.service import find
from jobspecs.frozen import PipelineOrigin, ScheduleOrigin, SweepOrigin
from jobspecs.lineage import DatasetParent, Lineage, ModelParent
from jobspecs.references import Reference, parse_reference
from jobspecs.rights import Principal, Reach
from storage.database import UnitOfWork
from storage.tables import ModelVersionRow

#: Steps that are followed up and down.
_DEPTH_MAX = 8
#: Of each version, children that are told, the oldest first.
_CHILDREN_MAX = 100
#: `here`: the user can read it; `hub`: it is a hub's; `gone`: it was deleted, or is another's own.
Standing = Literal["here", "hub", "gone"]


class Ancestor(BaseModel):
    """A model that was read. `reference` is what it was called then, `now` what has the same content now."""

    role: str
    reference: str
    digest: str | None
    standing: Standing
    now: str | None
    parents: list[Ancestor]


class AncestorData(BaseModel):
    """A data set that was read: `dataset` trained, `held_out` chose or judged, `test` judged."""

    role: str
    reference: str
    sha256: str | None
    standing: Standing


class Descendant(BaseModel):
    """A version that read this one, in that role."""

    role: str
    reference: str
    digest: str
    children: list[Descendant]


class Served(BaseModel):
    name: str
    state: str


class ModelLineage(BaseModel):
    object: Literal["model.lineage"] = "model.lineage"
    #: `owner/name@version`.
    reference: str
    digest: str
    #: The job that made it, as long as it is there; its kind and spec stay.
    job_id: UUID | None
    kind: str | None
    spec: dict[str, Any] | None
    #: The pipeline whose step that job was.
    pipeline: PipelineOrigin | None
    #: The sweep of which that job was a trial, or confirmed the winner.
    sweep: SweepOrigin | None
    #: The schedule that submitted the job or the pipeline, and the time that it was for.
    schedule: ScheduleOrigin | None
    #: Library -> version of what made it, `eigenwerk` among them.
    code: dict[str, str]
    parents: list[Ancestor]
    datasets: list[AncestorData]
    children: list[Descendant]
    #: Your deployments that serve it.
    deployments: list[Served]


def lineage(parts: Parts, user: Principal, reference: Reference) -> ModelLineage:
    """Raises ApiError 404."""
    reach = user.reach("models.read")
    with parts.database.unit_of_work() as work:
        row = find(work, reach, reference)
        known = _lineage_of(row)
        deployed = work.catalogue.deployments(user.reach("deployments.read").own, row)
        return ModelLineage(
            reference=row.full_name,
            digest=row.digest,
            job_id=row.job_id,
            kind=known.kind,
            spec=known.spec,
            pipeline=known.pipeline,
            sweep=known.sweep,
            schedule=known.schedule,
            code=row.manifest.get("versions") or {},
            parents=[_ancestor(work, reach, parent, _DEPTH_MAX) for parent in known.models],
            datasets=[_data(work, user.reach("datasets.read"), parent) for parent in known.datasets],
            children=list(_children(work, reach, row, _DEPTH_MAX)),
            deployments=[Served(name=one.name, state=one.state) for one in deployed],
        )


def _lineage_of(row: ModelVersionRow) -> Lineage:
    return Lineage.model_validate(row.lineage or {})


def _ancestor(work: UnitOfWork, reach: Reach, parent: ModelParent, depth: int) -> Ancestor:
    row = work.models.find_by_digest(reach, parent.digest) if parent.digest is not None else None
    standing: Standing = "here" if row is not None else "gone" if parent.digest is not None else "hub"
    above = _lineage_of(row).models if row is not None and depth > 1 else ()
    return Ancestor(
        role=parent.role,
        reference=parent.reference,
        digest=parent.digest,
        standing=standing,
        now=row.full_name if row is not None else None,
        parents=[_ancestor(work, reach, one, depth - 1) for one in above],
    )


def _data(work: UnitOfWork, reach: Reach, parent: DatasetParent) -> AncestorData:
    row = work.datasets.find(reach, parse_reference(parent.reference))
    here = row is not None and row.sha256 == parent.sha256
    standing: Standing = "here" if here else "gone"
    return AncestorData(role=parent.role, reference=parent.reference, sha256=parent.sha256, standing=standing)


def _children(work: UnitOfWork, reach: Reach, row: ModelVersionRow, depth: int) -> Iterator[Descendant]:
    for child in work.catalogue.children(reach, row.digest, limit=_CHILDREN_MAX):
        # A model of the same files as its base, a copy, would be its own child for ever.
        below = _children(work, reach, child, depth - 1) if depth > 1 and child.digest != row.digest else ()
        role = next(parent.role for parent in _lineage_of(child).models if parent.digest == row.digest)
        yield Descendant(role=role, reference=child.full_name, digest=child.digest, children=list(below))
