"""Sends a finished attempt's artifact and commits it: one transaction, guarded by the fence, makes it visible."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from jobspecs.dialect import WRITTEN_CSV
from jobspecs.evaluation import REPORT_KEY, EvaluationReport
from jobspecs.frozen import FrozenInputs
from jobspecs.lifecycle import JobState
from jobspecs.lineage import Lineage
from jobspecs.manifest import MANIFEST_NAME, Manifest, ManifestFile
from jobspecs.pieces import StoredFile
from jobspecs.profile import DatasetProfile
from storage.database import Database, DatabaseUnavailable, UnitOfWork
from storage.keeping import keep_file
from storage.objects import ObjectStore, ObjectStoreRefused, ObjectStoreUnavailable, TransferStopped
from storage.repositories.registry.blobs import BlobsGone
from storage.tables import DatasetVersionRow
from storage.tabular import detect_format, profile_table

log = logging.getLogger(__name__)

Result = TypeVar("Result")

#: Seconds before the next try while the object store is away: rising from the first to the last.
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 15.0


@dataclass(frozen=True)
class Artifact:
    """A complete artifact on the scratch disk."""

    job_id: UUID
    fence: int
    root: Path
    manifest: Manifest
    #: Of a data set; None for models.
    profile: DatasetProfile | None = None
    #: Where its files are, once they are sent.
    stored: tuple[StoredFile, ...] = ()

    @classmethod
    def describe(cls, job_id: UUID, fence: int, root: Path, manifest: Manifest) -> Artifact:
        """The artifact in `root`; a data set is read once for its profile. Raises InvalidInput for a broken one."""
        if manifest.artifact != "dataset":
            return cls(job_id, fence, root, manifest)
        (file,) = manifest.files
        fmt = detect_format(file.path)
        fmt = replace(fmt, dialect=WRITTEN_CSV) if fmt.kind == "csv" else fmt
        profile = profile_table(root / file.path, fmt, file.path)
        return cls(job_id, fence, root, manifest, profile)

    @property
    def prefix(self) -> str:
        """Where a data set goes. The fence is in it: two attempts never write to the same key."""
        return f"artifacts/{self.job_id}/{self.fence}"


def upload_patiently(
    artifact: Artifact,
    store: ObjectStore,
    database: Database,
    *,
    interrupted: Callable[[float], bool],
    on_progress: Callable[[int, int], None],
    warn: Callable[[str], None],
) -> Artifact:
    """Sends every file, and returns the artifact with where it is. What the store has already isn't sent.

    While the store is away it tries again, for as long as it takes: trained weights are not thrown away because a
    server restarts, or because somebody has to mend its settings. `interrupted(seconds)` waits and tells whether to
    give up: then TransferStopped. `on_progress(bytes_sent, bytes_total)` is told whole files. Raises ObjectCorrupt
    when a file is not what the manifest says.
    """
    sending = _Sending(artifact, store, database, interrupted, warn)
    while True:
        done = 0
        stored = []
        for file in artifact.manifest.files:
            stored.append(sending.persist(lambda file=file: sending.send(file)))  # type: ignore[misc]
            done += file.bytes
            on_progress(done, artifact.manifest.bytes_total)
        sent = replace(artifact, stored=tuple(stored))
        if artifact.profile is not None or sending.persist(lambda sent=sent: _held(database, sent)):  # type: ignore[misc]
            return sent
        warn("The artifact took so long to store that some of it is gone; it is sent again.")


def _held(database: Database, artifact: Artifact) -> bool:
    """Holds everything anew until the commit. False when some of what was sent is gone by now."""
    with database.unit_of_work() as work:
        held = work.blobs.hold([piece for file in artifact.stored for piece in file.pieces])
        return all(row.stored_at is not None for row in held.values())


def commit(work: UnitOfWork, artifact: Artifact, *, name: str, actor: str) -> bool:
    """Within the caller's transaction: the job succeeds and its model or data set version exists, or neither.

    False when the attempt may not commit: it is fenced off, or the job was cancelled meanwhile.
    """
    done = work.jobs.transition(
        artifact.job_id, JobState.succeeded, actor=actor, sources={JobState.uploading}, fence=artifact.fence
    )
    if done is None:
        return False
    inputs = FrozenInputs.model_validate(done.inputs)
    if artifact.profile is not None:
        result = _add_dataset(work, artifact, artifact.profile, done.owner_id, name)
        if (found := artifact.manifest.report.get(REPORT_KEY)) is not None:
            work.evaluations.add(result, EvaluationReport.model_validate(found), inputs.by_role())
        return True
    # The owner of this moment: the job may have passed to another one while it ran.
    version = work.models.add_version(
        done.owner_id,
        name,
        manifest=artifact.manifest,
        job_id=artifact.job_id,
        fence=artifact.fence,
        lineage=Lineage.of_job(done.kind, done.spec, inputs),
        license=work.models.license_of(inputs.model),
    )
    work.blobs.attach(version.id, {file.path: [piece.sha256 for piece in file.pieces] for file in artifact.stored})
    return True


def _add_dataset(
    work: UnitOfWork, artifact: Artifact, profile: DatasetProfile, owner_id: UUID, name: str
) -> DatasetVersionRow:
    (file,) = artifact.manifest.files
    return work.datasets.add_result(
        owner_id,
        name,
        job_id=artifact.job_id,
        fence=artifact.fence,
        file=file,
        key=f"{artifact.prefix}/{file.path}",
        profile=profile,
        manifest=artifact.manifest,
    )


def was_committed(work: UnitOfWork, artifact: Artifact) -> bool:
    """Whether this attempt's artifact is the job's result: a commit may arrive though its answer was lost."""
    version = work.models.of_job(artifact.job_id) or work.datasets.of_job(artifact.job_id)
    return version is not None and version.fence == artifact.fence


@dataclass(frozen=True)
class _Sending:
    """How an artifact is sent, again and again until it is there."""

    artifact: Artifact
    store: ObjectStore
    database: Database
    interrupted: Callable[[float], bool]
    warn: Callable[[str], None]

    def send(self, file: ManifestFile) -> StoredFile:
        """A model's file piece by piece, a data set's as an object of its own with the manifest beside it."""
        path, stop = self.artifact.root / file.path, partial(self.interrupted, 0.0)
        if self.artifact.profile is None:
            return keep_file(self.database, self.store, path, file.path, sha256=file.sha256, should_stop=stop)
        key = f"{self.artifact.prefix}/{file.path}"
        self.store.upload_file(path, key, sha256=file.sha256, should_stop=stop)
        self.store.upload_file(self.artifact.root / MANIFEST_NAME, f"{self.artifact.prefix}/{MANIFEST_NAME}")
        return StoredFile.whole(key, file)

    def persist(self, send: Callable[[], Result]) -> Result:
        wait_s = RETRY_FIRST_S
        while True:
            if self.interrupted(0.0):
                raise TransferStopped
            try:
                return send()
            except (ObjectStoreUnavailable, ObjectStoreRefused, DatabaseUnavailable, BlobsGone) as error:
                self.warn(f"The artifact is not stored yet; trying again in {wait_s:.0f} s. {error}")
            if self.interrupted(wait_s):
                raise TransferStopped
            wait_s = min(2 * wait_s, RETRY_MAX_S)
