"""Which version a revision means, and its files. Inside a transaction."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from api.hub.dataset_cards import CARD, card
from api.hub.repositories import MAIN, HubFile, Repository, Snapshot, commit_id
from api.hub.routes import unknown_repository, unknown_revision
from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.pieces import StoredFile
from jobspecs.rights import Principal
from storage.database import UnitOfWork
from storage.repositories.hub import Numbered
from storage.tables import DatasetVersionRow, ModelVersionRow

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
    newest = _newest(work, user, repository)
    revision = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
    if revision in (MAIN, "HEAD", "latest"):
        return _taken(repository, newest)
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
    return _taken(repository, row)


def stored(work: UnitOfWork, user: Principal, found: Snapshot, file: HubFile) -> StoredFile | None:
    """Where the file's bytes are; None for a text that the platform makes."""
    if file.text is not None:
        return None
    row = _found(work, user, found.repository, found.version)
    if isinstance(row, ModelVersionRow):
        return next((one for one in work.blobs.files_of(row) if one.path == file.path), None)
    plain = ManifestFile(path=file.path, bytes=file.size_bytes, sha256=file.sha256)
    return None if row is None else StoredFile.whole(row.key, plain)


def history(work: UnitOfWork, user: Principal, repository: Repository) -> Sequence[Numbered]:
    """Its versions, newest first. Raises ApiError 404."""
    return _numbered(work, _newest(work, user, repository))


def aliases(work: UnitOfWork, user: Principal, repository: Repository) -> dict[str, int]:
    """Alias -> version; a data set has none. Raises ApiError 404."""
    newest = _newest(work, user, repository)
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
        private=row.dataset.visibility == "private",
    )


def _taken(repository: Repository, row: ModelVersionRow | DatasetVersionRow) -> Snapshot:
    return of_model(row) if isinstance(row, ModelVersionRow) else of_dataset(row)


def _newest(work: UnitOfWork, user: Principal, repository: Repository) -> ModelVersionRow | DatasetVersionRow:
    row = _found(work, user, repository, None)
    if row is None:
        raise unknown_repository(repository)
    return row


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
