"""Deleting: who still uses a version, and taking its rows away with its objects written down as garbage."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from sqlalchemy import ColumnElement, Text, cast, delete, func, or_, select, update
from sqlalchemy.orm import Session

from jobspecs.batches import UNENDED
from jobspecs.frozen import FrozenInputs, FrozenRegistryModel
from jobspecs.lifecycle import TERMINAL, JobState
from jobspecs.manifest import Manifest
from jobspecs.openai_ids import openai_id
from jobspecs.rights import Reach
from storage.repositories.owners import within
from storage.repositories.registry.blobs import BlobRepository
from storage.repositories.registry.garbage import GarbageRepository
from storage.tables import (
    BatchRow,
    CheckpointRow,
    DatasetRow,
    DatasetVersionRow,
    DeploymentAdapterRow,
    DeploymentRow,
    JobEventRow,
    JobRow,
    JobTransitionRow,
    ModelAliasRow,
    ModelImportFileRow,
    ModelImportRow,
    ModelRow,
    ModelVersionRow,
    OwnerRow,
    PipelineRow,
    PipelineStepRow,
    SweepRow,
)

_ENDED = [str(state) for state in TERMINAL]
_RETRYABLE = [str(state) for state in TERMINAL if state is not JobState.succeeded]


@dataclass(frozen=True)
class Use:
    """What needs a version: a job, pipeline, sweep or batch by its id, a deployment by name, an adapter, an alias."""

    kind: Literal["job", "pipeline", "sweep", "batch", "deployment", "adapter", "alias"]
    name: str
    #: The version that it needs; None where a whole thing is needed.
    version: int | None = None
    #: Whose it is, where that is another owner, who was let read the thing; None: the thing's own.
    owner: str | None = None


class RemovalRepository:
    """Takes rows away. What lies in the object store goes after the commit, by `work.garbage`."""

    def __init__(self, session: Session, garbage: GarbageRepository, blobs: BlobRepository) -> None:
        self._session = session
        self._garbage = garbage
        self._blobs = blobs

    def hold(self, inputs: FrozenInputs) -> bool:
        """Keeps a job's inputs from being deleted until this transaction has ended. False when one is gone already."""
        models = {model.version_id for model in inputs.by_role().values() if isinstance(model, FrozenRegistryModel)}
        datasets = {dataset.version_id for dataset in inputs.datasets()}
        return self._held(ModelVersionRow, models) and self._held(DatasetVersionRow, datasets)

    def hold_dataset(self, version_id: UUID) -> bool:
        """As `hold`, for one version of a data set."""
        return self._held(DatasetVersionRow, {version_id})

    def uses_of_models(self, versions: Sequence[ModelVersionRow]) -> list[Use]:
        """Who needs versions of one model; what is among them doesn't count, nor do aliases when all versions go.

        The versions stay locked: nobody can begin to use them before this transaction has ended.
        """
        by_id = {row.id: row for row in versions}
        self._lock(ModelVersionRow, by_id)
        owner = versions[0].model.owner.name
        # Jobs first: one that ends meanwhile has its adapter in the table by then.
        numbers = {row.id: row.version for row in versions}
        uses = self._active_jobs(numbers, owner) + self._pipelines(numbers, owner) + self._sweeps(numbers, owner)
        beside = select(DeploymentAdapterRow.deployment_id).where(DeploymentAdapterRow.model_version_id.in_(by_id))
        serves = or_(DeploymentRow.model_version_id.in_(by_id), DeploymentRow.id.in_(beside))
        uses += dict.fromkeys(
            Use("deployment", row.name, by_id[served_id].version, _other(row.owner.name, owner))
            for row in self._session.scalars(select(DeploymentRow).where(serves).order_by(DeploymentRow.name))
            for served_id in (row.model_version_id, *(adapter.id for adapter in row.adapters))
            if served_id is not None and served_id in by_id
        )
        uses += self._adapters(versions)
        return uses + self._aliases(versions)

    def uses_by_others(self, owner_id: UUID) -> list[tuple[str, list[Use]]]:
        """What others need of what this owner shares or shared: `model NAME` or `data set NAME`, and who needs it."""
        found: list[tuple[str, list[Use]]] = []
        for row in self._session.scalars(select(ModelRow).where(within(Reach.of(owner_id), ModelRow.owner_id))):
            versions = select(ModelVersionRow).where(ModelVersionRow.model_id == row.id)
            if every := self._session.scalars(versions).all():
                found.append((f"model {row.name}", self.uses_of_models(every)))
        for data in self._session.scalars(select(DatasetRow).where(within(Reach.of(owner_id), DatasetRow.owner_id))):
            files = select(DatasetVersionRow).where(DatasetVersionRow.dataset_id == data.id)
            if pushed := self._session.scalars(files).all():
                found.append((f"data set {data.name}", self.uses_of_datasets(pushed)))
        others = [(what, [use for use in uses if use.owner is not None]) for what, uses in found]
        return [(what, uses) for what, uses in others if uses]

    def uses_of_datasets(self, versions: Sequence[DatasetVersionRow]) -> list[Use]:
        """Who needs these versions of one data set; they stay locked until this transaction has ended."""
        numbers = {row.id: row.version for row in versions}
        self._lock(DatasetVersionRow, numbers)
        owner = versions[0].dataset.owner.name
        whole = self._sweeps(numbers, owner) + self._batches(numbers, owner)
        return self._active_jobs(numbers, owner) + self._pipelines(numbers, owner) + whole

    def uses_of_job(self, job_id: UUID) -> list[Use]:
        """Jobs that go on from its checkpoint; no other can begin to before this transaction has ended."""
        self._session.execute(select(JobRow.id).where(JobRow.id == job_id).with_for_update())
        retries = select(JobRow.id).where(JobRow.retry_of == job_id, JobRow.state.not_in(_ENDED))
        return [Use("job", str(retry)) for retry in self._session.scalars(retries)]

    def retries_lost(self, versions: Sequence[ModelVersionRow] | Sequence[DatasetVersionRow]) -> list[tuple[UUID, str]]:
        """Id and name of jobs that failed or were cancelled, could go on from a checkpoint, and need one of these."""
        kept = select(CheckpointRow.job_id).where(CheckpointRow.job_id == JobRow.id).exists()
        query = select(JobRow.id, JobRow.spec["name"].astext).where(JobRow.state.in_(_RETRYABLE), kept)
        query = query.where(_reads([row.id for row in versions])).order_by(JobRow.submitted_order)
        return [(job, name) for job, name in self._session.execute(query)]

    def bytes_freed(self, versions: Sequence[ModelVersionRow]) -> int:
        """Bytes that no other version, and no import under way, has as well."""
        below = sum(row.bytes for row in versions if row.prefix is not None)
        return below + self._blobs.bytes_freed([row.id for row in versions])

    def delete_models(self, versions: Sequence[ModelVersionRow]) -> None:
        """The caller has asked for their uses. Their numbers are never given again."""
        for row in versions:
            if row.prefix is not None:
                self._garbage.add(row.prefix, bytes_total=row.bytes)
            used = func.greatest(ModelRow.version_deleted_max, row.version)
            model = ModelRow.id == row.model_id
            self._session.execute(update(ModelRow).where(model).values(version_deleted_max=used))
            alias = (ModelAliasRow.model_id == row.model_id, ModelAliasRow.version == row.version)
            self._session.execute(delete(ModelAliasRow).where(*alias))
            self._blobs.release(row.id)
            self._forget_import(row.id)
            self._session.execute(delete(ModelVersionRow).where(ModelVersionRow.id == row.id))

    def delete_datasets(self, versions: Sequence[DatasetVersionRow]) -> None:
        """The caller has asked for their uses. Their numbers are never given again."""
        for row in versions:
            # The folder, not the file: what a job made has its manifest beside it.
            self._garbage.add(row.key.rpartition("/")[0], bytes_total=row.bytes)
            used = func.greatest(DatasetRow.version_deleted_max, row.version)
            dataset = DatasetRow.id == row.dataset_id
            self._session.execute(update(DatasetRow).where(dataset).values(version_deleted_max=used))
            self._session.execute(delete(DatasetVersionRow).where(DatasetVersionRow.id == row.id))

    def delete_job(self, job_id: UUID) -> int | None:
        """Deletes an ended job with its events and checkpoints; what it made stays.

        Returns the bytes of its checkpoints that are freed; None, and nothing is deleted, when it has not ended. The
        caller has asked for its uses.
        """
        query = select(JobRow).where(JobRow.id == job_id).with_for_update(of=JobRow)
        row = self._session.scalars(query.execution_options(populate_existing=True)).one_or_none()
        if row is None or row.state not in _ENDED:
            return None
        stored = self._discard_checkpoints(job_id)
        attempts = [f"artifacts/{job_id}/{fence}" for fence in range(1, row.fence + 1)]
        for prefix in set(attempts) - self._garbage.named(attempts):
            self._garbage.add(prefix, bytes_total=0)
        retries = update(JobRow).where(JobRow.retry_of == job_id).values(retry_of=None)
        self._session.execute(retries)
        for table in (ModelVersionRow, DatasetVersionRow):
            self._session.execute(update(table).where(table.job_id == job_id).values(job_id=None))
        for part in (CheckpointRow, JobEventRow, JobTransitionRow):
            self._session.execute(delete(part).where(part.job_id == job_id))
        self._session.execute(delete(JobRow).where(JobRow.id == job_id))
        self._session.expunge(row)
        return stored

    def _discard_checkpoints(self, job_id: UUID) -> int:
        """Writes them down as garbage, but for those that another job names; returns how many bytes."""
        folder = f"checkpoints/{job_id}"
        prefix = CheckpointRow.prefix
        rows = self._session.scalars(select(CheckpointRow).where(CheckpointRow.job_id == job_id)).all()
        sizes = {row.prefix: Manifest.model_validate(row.manifest).bytes_total for row in rows}
        concerned = prefix.startswith(f"{folder}/") | prefix.in_(list(sizes))
        others = set(self._session.scalars(select(prefix).where(concerned, CheckpointRow.job_id != job_id)))
        # What it adopted from a job that is gone by now goes with the last that names it.
        freed = {named: size for named, size in sizes.items() if named not in others}
        whole = not any(named.startswith(f"{folder}/") for named in others)
        if whole:
            own = sum(size for named, size in freed.items() if named.startswith(f"{folder}/"))
            self._garbage.add(folder, bytes_total=own)
        for named, size in freed.items():
            if not (whole and named.startswith(f"{folder}/")):
                self._garbage.add(named, bytes_total=size)
        return sum(freed.values())

    def _held(self, table: type[ModelVersionRow | DatasetVersionRow], ids: Collection[UUID]) -> bool:
        if not ids:
            return True
        found = select(table.id).where(table.id.in_(ids)).with_for_update(read=True, key_share=True)
        return len(self._session.scalars(found).all()) == len(ids)

    def _lock(self, table: type[ModelVersionRow | DatasetVersionRow], ids: Collection[UUID]) -> None:
        self._session.execute(select(table.id).where(table.id.in_(ids)).order_by(table.id).with_for_update())

    def _active_jobs(self, numbers: Mapping[UUID, int], owner: str) -> list[Use]:
        """Jobs that have not ended and read one of these versions, id -> number, of things of `owner`."""
        inputs = cast(JobRow.inputs, Text)
        query = select(JobRow.id, inputs, OwnerRow.name).join(JobRow.owner)
        query = query.where(JobRow.state.not_in(_ENDED), _reads(numbers)).order_by(JobRow.submitted_order)
        return [
            Use("job", str(job), number, _other(whose, owner))
            for job, told, whose in self._session.execute(query)
            for version_id, number in numbers.items()
            if str(version_id) in told
        ]

    def _pipelines(self, numbers: Mapping[UUID, int], owner: str) -> list[Use]:
        """Pipelines that go on and of which a step reads one of these versions, or has made it for another step."""
        told = cast(PipelineStepRow.inputs, Text) + func.coalesce(cast(PipelineStepRow.output, Text), "")
        query = select(PipelineRow.id, told, OwnerRow.name).join(PipelineRow.owner)
        query = query.join(PipelineStepRow, PipelineStepRow.pipeline_id == PipelineRow.id)
        reads = or_(*(told.contains(str(version_id)) for version_id in numbers))
        query = query.where(PipelineRow.finished_at.is_(None), reads).order_by(PipelineRow.submitted_order)
        return list(
            dict.fromkeys(
                Use("pipeline", str(pipeline_id), number, _other(whose, owner))
                for pipeline_id, text, whose in self._session.execute(query)
                for version_id, number in numbers.items()
                if str(version_id) in text
            )
        )

    def _sweeps(self, numbers: Mapping[UUID, int], owner: str) -> list[Use]:
        """Sweeps that go on and whose trials read one of these versions."""
        told = cast(SweepRow.plan, Text)
        query = select(SweepRow.id, told, OwnerRow.name).join(SweepRow.owner)
        reads = or_(*(told.contains(str(version_id)) for version_id in numbers))
        query = query.where(SweepRow.finished_at.is_(None), reads).order_by(SweepRow.submitted_order)
        return [
            Use("sweep", str(sweep_id), number, _other(whose, owner))
            for sweep_id, text, whose in self._session.execute(query)
            for version_id, number in numbers.items()
            if str(version_id) in text
        ]

    def _batches(self, numbers: Mapping[UUID, int], owner: str) -> list[Use]:
        """Batches that have not ended and read one of these versions."""
        query = select(BatchRow).where(BatchRow.input_version_id.in_(numbers), BatchRow.state.in_(UNENDED))
        return [
            Use("batch", openai_id("batch", row.id), numbers[row.input_version_id], _other(row.owner.name, owner))
            for row in self._session.scalars(query.order_by(BatchRow.created_at))
        ]

    def _adapters(self, versions: Sequence[ModelVersionRow]) -> list[Use]:
        """Adapters whose owners can read their base, by its digest, in these versions alone."""
        by_digest = {row.digest: row.version for row in versions}
        ids, model = [row.id for row in versions], versions[0].model
        beside = select(ModelVersionRow).join(ModelVersionRow.model).where(ModelVersionRow.id.not_in(ids))
        same = self._session.scalars(beside.where(ModelVersionRow.digest.in_(by_digest))).all()
        base = ModelVersionRow.manifest["base"]["digest"].astext
        adapters = beside.where(base.in_(by_digest))
        if model.visibility == "private":
            adapters = adapters.where(within(Reach.of(model.owner_id), ModelRow.owner_id))
        uses = []
        for row in self._session.scalars(adapters):
            digest, reach = row.manifest["base"]["digest"], Reach.of(row.model.owner_id).with_shared
            if not any(digest == one.digest and reach.includes(one.model) for one in same):
                name, whose = f"{row.model.name}@{row.version}", _other(row.model.owner.name, model.owner.name)
                uses.append(Use("adapter", name, by_digest[digest], whose))
        return uses

    def _aliases(self, versions: Sequence[ModelVersionRow]) -> list[Use]:
        model_id, numbers = versions[0].model_id, [row.version for row in versions]
        count = select(func.count()).where(ModelVersionRow.model_id == model_id)
        if self._session.scalar(count) == len(versions):
            return []
        named = select(ModelAliasRow).where(ModelAliasRow.model_id == model_id, ModelAliasRow.version.in_(numbers))
        return [Use("alias", row.alias, row.version) for row in self._session.scalars(named)]

    def _forget_import(self, version_id: UUID) -> None:
        imports = select(ModelImportRow.id).where(ModelImportRow.version_id == version_id)
        files = delete(ModelImportFileRow).where(ModelImportFileRow.import_id.in_(imports))
        self._session.execute(files)
        self._session.execute(delete(ModelImportRow).where(ModelImportRow.version_id == version_id))


def _other(whose: str, owner: str) -> str | None:
    return None if whose == owner else whose


def _reads(version_ids: Collection[UUID]) -> ColumnElement[bool]:
    """Whether a job's inputs name one of these versions."""
    return or_(*(cast(JobRow.inputs, Text).contains(str(version_id)) for version_id in version_ids))
