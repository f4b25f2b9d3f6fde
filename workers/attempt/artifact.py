"""Sends a finished attempt's artifact and commits it: one transaction, guarded by the fence, makes it visible."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from jobspecs.dialect import WRITTEN_CSV
from jobspecs.frozen import FrozenInputs
from jobspecs.lifecycle import JobState
from jobspecs.lineage import Lineage
from jobspecs.manifest import MANIFEST_NAME, Manifest, ManifestFile
from jobspecs.profile import DatasetProfile
from storage.database import UnitOfWork
from storage.objects import ObjectStore, ObjectStoreRefused, ObjectStoreUnavailable, TransferStopped
from storage.tabular import detect_format, profile_table

log = logging.getLogger(__name__)

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
        """Where it goes. The fence is in it: two attempts never write to the same key."""
        return f"artifacts/{self.job_id}/{self.fence}"


def upload_patiently(
    artifact: Artifact,
    store: ObjectStore,
    *,
    interrupted: Callable[[float], bool],
    on_progress: Callable[[int, int], None],
    warn: Callable[[str], None],
) -> None:
    """Sends every file, `manifest.json` last. While the store is away it tries again, for as long as it takes.

    Trained weights are not thrown away because a server restarts, or because somebody has to mend its settings.
    `interrupted(seconds)` waits and tells whether to give up: then TransferStopped. `on_progress(bytes_sent,
    bytes_total)` is told whole files. Raises ObjectCorrupt when a file is not what the manifest says.
    """
    done = 0
    for file in artifact.manifest.files:
        _persist(lambda file=file: _send(artifact, store, file, interrupted), interrupted, warn)  # type: ignore[misc]
        done += file.bytes
        on_progress(done, artifact.manifest.bytes_total)
    key = f"{artifact.prefix}/{MANIFEST_NAME}"
    _persist(lambda: store.upload_file(artifact.root / MANIFEST_NAME, key), interrupted, warn)


def commit(work: UnitOfWork, artifact: Artifact, *, name: str, actor: str) -> bool:
    """Within the caller's transaction: the job succeeds and its model or data set version exists, or neither.

    False when the attempt may not commit: it is fenced off, or the job was cancelled meanwhile.
    """
    done = work.jobs.transition(
        artifact.job_id, JobState.succeeded, actor=actor, sources={JobState.uploading}, fence=artifact.fence
    )
    if done is None:
        return False
    if artifact.profile is not None:
        _add_dataset(work, artifact, artifact.profile, done.owner_id, name)
        return True
    inputs = FrozenInputs.model_validate(done.inputs)
    # The owner of this moment: the job may have passed to another one while it ran.
    work.models.add_version(
        done.owner_id,
        name,
        manifest=artifact.manifest,
        prefix=artifact.prefix,
        job_id=artifact.job_id,
        fence=artifact.fence,
        lineage=Lineage.of_job(done.kind, done.spec, inputs),
        license=work.models.license_of(inputs.model),
    )
    return True


def _add_dataset(work: UnitOfWork, artifact: Artifact, profile: DatasetProfile, owner_id: UUID, name: str) -> None:
    (file,) = artifact.manifest.files
    work.datasets.add_result(
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


def _send(artifact: Artifact, store: ObjectStore, file: ManifestFile, interrupted: Callable[[float], bool]) -> None:
    store.upload_file(
        artifact.root / file.path,
        f"{artifact.prefix}/{file.path}",
        sha256=file.sha256,
        should_stop=lambda: interrupted(0.0),
    )


def _persist(send: Callable[[], object], interrupted: Callable[[float], bool], warn: Callable[[str], None]) -> None:
    wait_s = RETRY_FIRST_S
    while True:
        if interrupted(0.0):
            raise TransferStopped
        try:
            send()
            return
        except (ObjectStoreUnavailable, ObjectStoreRefused) as error:
            warn(f"The artifact is not stored yet; trying again in {wait_s:.0f} s. {error}")
        if interrupted(wait_s):
            raise TransferStopped
        wait_s = min(2 * wait_s, RETRY_MAX_S)
