"""Which version a revision means, and its files. Inside a transaction."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from api.hub.reading.dataset_cards import CARD, card, file_names
from api.hub.repositories import MAIN, HubFile, Repository, Snapshot, commit_id
from api.hub.routes import unknown_repository, unknown_revision
from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.pieces import StoredFile
from jobspecs.rights import Principal
from storage.database import UnitOfWork
from storage.repositories.registry.hub import Numbered
from storage.tables import DatasetVersionRow, HubPushRow, ModelVersionRow

_COMMIT = re.compile(r"[0-9a-f]{40}")
#: Of int4, which a version's number is.
_NUMBER = re.compile(r"[1-9]\d{0,8}")
#: The file that tells the library that wrote a model, the first that is there.
_LIBRARIES = (
    ("modules.json", "sentence-transformers"),
    ("adapter_config.json", "peft"),
    ("config.json", "transformers"),
)


def snapshot(work: UnitOfWork, user: Principal, repository: Repository, revision: str = MAIN) -> Snapshot:
    """Raises ApiError 404: RepoNotFound, RevisionNotFound."""
    newest = _found(work, user, repository, None)
    if newest is None:
        return _empty(work, user, repository, revision)
    revision = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
    if revision in (MAIN, "HEAD", "latest"):
        return _taken(newest)
    if _COMMIT.fullmatch(revision):
        numbers = [at.version for at in _numbered(work, newest) if commit_id(at.digest, at.version) == revision]
        selector = {"version": numbers[0]} if numbers else None
    elif _NUMBER.fullmatch(revision):
        selector = {"version": int(revision)}
    else:
        selector = None
        if isinstance(newest, ModelVersionRow):
            moved = {alias.alias: alias.version for alias in work.aliases.of_model(newest.model_id)}
            selector = {"version": moved[revision]} if revision in moved else None
    row = _found(work, user, repository, selector["version"]) if selector else None
    if row is None:
        raise unknown_revision(repository, revision)
    return _taken(row)


def exists(work: UnitOfWork, user: Principal, repository: Repository) -> bool:
    """Whether it has versions, or was made to push to."""
    return _found(work, user, repository, None) is not None or _made(work, user, repository) is not None


def model_at(work: UnitOfWork, user: Principal, repository: Repository, revision: str) -> ModelVersionRow:
    """Raises ApiError 404."""
    version = snapshot(work, user, repository, revision).version
    row = work.models.find(user.reach("models.read"), repository.reference.model_copy(update={"version": version}))
    if row is None:
        raise unknown_revision(repository, revision)
    return row


def stored(work: UnitOfWork, user: Principal, found: Snapshot, file: HubFile) -> StoredFile | None:
    """Where the file's bytes are; None for a text that the platform makes."""
    if file.text is not None:
        return None
    row = _found(work, user, found.repository, found.version)
    if isinstance(row, ModelVersionRow):
        return next((one for one in work.blobs.files_of(row) if one.path == file.path), None)
    return None if row is None else _file_of(row)


def tar_of(work: UnitOfWork, user: Principal, found: Snapshot) -> StoredFile | None:
    """Where the tar is that holds the snapshot's files; None where there is none."""
    if not found.members:
        return None
    row = _found(work, user, found.repository, found.version)
    return _file_of(row) if isinstance(row, DatasetVersionRow) else None


def _file_of(row: DatasetVersionRow) -> StoredFile:
    plain = ManifestFile(path=row.file_name, bytes=row.bytes, sha256=row.sha256)
    return StoredFile.whole(row.key, plain)


def history(work: UnitOfWork, user: Principal, repository: Repository) -> Sequence[Numbered]:
    """Its versions, newest first; none of an empty one. Raises ApiError 404."""
    newest = _found(work, user, repository, None)
    if newest is not None:
        return _numbered(work, newest)
    empty = _empty(work, user, repository, MAIN)
    return [Numbered(empty.version, "", empty.created_at)]


def aliases(work: UnitOfWork, user: Principal, repository: Repository) -> dict[str, int]:
    """Alias -> version; a data set has none."""
    newest = _found(work, user, repository, None)
    if not isinstance(newest, ModelVersionRow):
        return {}
    return {alias.alias: alias.version for alias in work.aliases.of_model(newest.model_id)}


def of_model(row: ModelVersionRow) -> Snapshot:
    """The version as a commit. The platform's own manifest is no file of it: /v1/registry has that."""
    manifest = Manifest.model_validate(row.manifest)
    paths = {file.path for file in manifest.files}
    library = next((name for path, name in _LIBRARIES if path in paths), None)
    if library is None and any(path.endswith(".gguf") for path in paths):
        library = "gguf"
    return Snapshot(
        repository=Repository("models", row.model.owner.name, row.model.name),
        version=row.version,
        commit=commit_id(row.digest, row.version),
        created_at=row.created_at,
        files=tuple(HubFile(file.path, file.bytes, file.sha256) for file in manifest.files),
        task=manifest.task,
        library=library,
        tags=tuple(tag for tag in (library, manifest.task) if tag),
        private=row.model.visibility == "private",
    )


def of_dataset(row: DatasetVersionRow) -> Snapshot:
    """The version's file, and a card that tells how to read it."""
    text = card(row)
    made = HubFile(CARD, len(text), hashlib.sha256(text).hexdigest(), text=text)
    return Snapshot(
        repository=Repository("datasets", row.dataset.owner.name, row.dataset.name),
        version=row.version,
        commit=commit_id(row.sha256, row.version),
        created_at=row.created_at,
        files=(made, HubFile(row.file_name, row.bytes, row.sha256)),
        members=file_names(row) if row.file_name.endswith(".tar") else (),
        private=row.dataset.visibility == "private",
    )


def _taken(row: ModelVersionRow | DatasetVersionRow) -> Snapshot:
    return of_model(row) if isinstance(row, ModelVersionRow) else of_dataset(row)


def _made(work: UnitOfWork, user: Principal, repository: Repository) -> HubPushRow | None:
    return work.hub_pushes.find(user.reach(repository.writing), repository.kind, repository.owner, repository.name)


def _empty(work: UnitOfWork, user: Principal, repository: Repository, revision: str) -> Snapshot:
    """Of a repository that has no version yet. Raises ApiError 404 where there is none."""
    made = _made(work, user, repository)
    if made is None:
        raise unknown_repository(repository)
    commit = commit_id("", 0)
    if revision.removeprefix("refs/heads/") not in (MAIN, commit):
        raise unknown_revision(repository, revision)
    return Snapshot(repository, version=0, commit=commit, created_at=made.created_at, files=())


def _found(
    work: UnitOfWork, user: Principal, repository: Repository, version: int | None
) -> ModelVersionRow | DatasetVersionRow | None:
    reach = user.reach(repository.reading)
    reference = repository.reference.model_copy(update={"version": version})
    return work.models.find(reach, reference) if repository.kind == "models" else work.datasets.find(reach, reference)


def _numbered(work: UnitOfWork, newest: ModelVersionRow | DatasetVersionRow) -> Sequence[Numbered]:
    if isinstance(newest, ModelVersionRow):
        return work.hub.versions_of_model(newest.model_id)
    return work.hub.versions_of_dataset(newest.dataset_id)
