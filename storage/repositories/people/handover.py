"""What an owner has, when the owner goes: it passes to another owner, or it is deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from jobspecs.lifecycle import TERMINAL, JobState
from jobspecs.rights import Reach
from storage.repositories.owners import within
from storage.repositories.registry.blobs import BlobRepository
from storage.repositories.registry.garbage import GarbageRepository
from storage.repositories.registry.removal import RemovalRepository
from storage.tables import (
    BatchRow,
    DatasetRow,
    DatasetVersionRow,
    DeploymentRow,
    JobRow,
    ModelImportFileRow,
    ModelImportRow,
    ModelRow,
    ModelVersionRow,
    PipelineRow,
    SweepRow,
)

_ENDED = [str(state) for state in TERMINAL]
#: Named things, and what has their versions; a model or data set whose versions are all deleted is a mere name.
Versioned = type[DatasetRow] | type[ModelRow]
_KINDS: tuple[Literal["data set", "model"], ...] = ("data set", "model")
_VERSIONED: tuple[tuple[Versioned, InstrumentedAttribute[UUID]], ...] = (
    (DatasetRow, DatasetVersionRow.dataset_id),
    (ModelRow, ModelVersionRow.model_id),
)
#: What is owned beside jobs.
_OWNED_BESIDE = (DeploymentRow, DatasetRow, ModelRow, ModelImportRow, BatchRow)


@dataclass(frozen=True)
class Things:
    """How many of each an owner has."""

    jobs: int
    deployments: int
    datasets: int
    models: int
    #: Of the jobs: those that have not ended.
    active_jobs: int

    @property
    def any(self) -> bool:
        return bool(self.jobs or self.deployments or self.datasets or self.models)


@dataclass(frozen=True)
class Clash:
    """A name that both owners use. A job clashes when its result would become a version of what the other has."""

    kind: Literal["data set", "model", "deployment", "job"]
    name: str


class HandoverRepository:
    """Counts, passes on and deletes all that one owner has."""

    def __init__(
        self, session: Session, garbage: GarbageRepository, removal: RemovalRepository, blobs: BlobRepository
    ) -> None:
        self._session = session
        self._garbage = garbage
        self._removal = removal
        self._blobs = blobs

    def things(self, owner_id: UUID) -> Things:
        datasets, models = (len(self._with_versions(table, parent, owner_id)) for table, parent in _VERSIONED)
        jobs = select(func.count()).select_from(JobRow).where(within(Reach.of(owner_id), JobRow.owner_id))
        return Things(
            jobs=self._session.scalar(jobs) or 0,
            deployments=len(self._deployments(owner_id)),
            datasets=datasets,
            models=models,
            active_jobs=len(self.active_jobs(owner_id)),
        )

    def active_jobs(self, owner_id: UUID) -> Sequence[UUID]:
        query = select(JobRow.id).where(within(Reach.of(owner_id), JobRow.owner_id), JobRow.state.not_in(_ENDED))
        return self._session.scalars(query.order_by(JobRow.id)).all()

    def clashes(self, giver_id: UUID, taker_id: UUID) -> list[Clash]:
        """Every name that keeps the giver's things from passing to the taker."""
        found: list[Clash] = []
        taken: set[str] = set()
        for kind, (table, parent) in zip(_KINDS, _VERSIONED, strict=True):
            given, kept = (self._with_versions(table, parent, owner_id) for owner_id in (giver_id, taker_id))
            found += [Clash(kind, name) for name in sorted(given & kept)]
            taken |= kept
        given, kept = (self._deployments(owner_id) for owner_id in (giver_id, taker_id))
        found += [Clash("deployment", name) for name in sorted(given & kept)]
        # A job that is being cancelled brings no result any more.
        fruitless = [*_ENDED, JobState.cancelling.value]
        made = select(JobRow.name).where(within(Reach.of(giver_id), JobRow.owner_id), JobRow.state.not_in(fruitless))
        return found + [Clash("job", name) for name in sorted(taken.intersection(self._session.scalars(made)))]

    def give(self, giver_id: UUID, taker_id: UUID) -> None:
        """Passes everything on, and what runs or is served goes on. The caller has asked for clashes."""
        giver = Reach.of(giver_id)
        # Jobs first: a worker that commits locks its job, then adds a model or data set to the job's owner. Idempotency
        # keys of the giver's client mean nothing to the taker's.
        jobs = update(JobRow).where(within(giver, JobRow.owner_id)).values(owner_id=taker_id, idempotency_key=None)
        self._session.execute(jobs)
        for table, parent in _VERSIONED:
            self._drop_mere_names(table, parent, giver_id, taker_id)
        for strings in (PipelineRow, SweepRow):
            theirs = update(strings).where(within(giver, strings.owner_id))
            self._session.execute(theirs.values(owner_id=taker_id, idempotency_key=None))
        for owned in _OWNED_BESIDE:
            self._session.execute(update(owned).where(within(giver, owned.owner_id)).values(owner_id=taker_id))

    def delete(self, owner_id: UUID) -> None:
        """Deletes everything. No job may be active and nothing deployed any more."""
        owner = Reach.of(owner_id)
        for strings in (PipelineRow, SweepRow):
            self._session.execute(delete(strings).where(within(owner, strings.owner_id)))
        for job_id in self._session.scalars(select(JobRow.id).where(within(owner, JobRow.owner_id))).all():
            self._removal.delete_job(job_id)
        models = select(ModelVersionRow).join(ModelVersionRow.model).where(within(owner, ModelRow.owner_id))
        self._removal.delete_models(self._session.scalars(models).all())
        datasets = select(DatasetVersionRow).join(DatasetVersionRow.dataset).where(within(owner, DatasetRow.owner_id))
        self._removal.delete_datasets(self._session.scalars(datasets).all())
        imports = select(ModelImportRow.id).where(within(owner, ModelImportRow.owner_id))
        for import_id in self._session.scalars(imports).all():
            self._garbage.add(f"models/{import_id}", bytes_total=0)
            self._blobs.forget_import(import_id)
            self._session.execute(delete(ModelImportFileRow).where(ModelImportFileRow.import_id == import_id))
            self._session.execute(delete(ModelImportRow).where(ModelImportRow.id == import_id))
        for table, _ in _VERSIONED:
            self._session.execute(delete(table).where(within(owner, table.owner_id)))

    def _with_versions(self, table: Versioned, parent: InstrumentedAttribute[UUID], owner_id: UUID) -> set[str]:
        """Names of the owner's data sets or models."""
        query = select(table.name).where(within(Reach.of(owner_id), table.owner_id))
        return set(self._session.scalars(query.where(table.id.in_(select(parent)))))

    def _deployments(self, owner_id: UUID) -> set[str]:
        query = select(DeploymentRow.name).where(within(Reach.of(owner_id), DeploymentRow.owner_id))
        return set(self._session.scalars(query))

    def _drop_mere_names(
        self, table: Versioned, parent: InstrumentedAttribute[UUID], giver_id: UUID, taker_id: UUID
    ) -> None:
        """A name without versions must not stand in the way of the same name with some; its numbers stay used."""
        used: dict[UUID, dict[str, int]] = {}
        for owner_id in (giver_id, taker_id):
            query = select(table.name, table.version_deleted_max).where(within(Reach.of(owner_id), table.owner_id))
            used[owner_id] = {name: number for name, number in self._session.execute(query)}
        full = self._with_versions(table, parent, giver_id)
        for name in used[giver_id].keys() & used[taker_id].keys():
            stays, goes = (giver_id, taker_id) if name in full else (taker_id, giver_id)
            gone = (within(Reach.of(goes), table.owner_id), table.name == name)
            self._session.execute(delete(table).where(*gone))
            kept = update(table).where(within(Reach.of(stays), table.owner_id), table.name == name)
            self._session.execute(kept.values(version_deleted_max=max(used[giver_id][name], used[taker_id][name])))
