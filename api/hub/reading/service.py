"""Reading repositories: what there is, its files and its history."""

from __future__ import annotations

import hashlib

from api.hub.reading import snapshots
from api.hub.reading.schemas import Commit, Ref, Refs, TreeEntry, entry_of, folder_of
from api.hub.reading.tar_members import with_members
from api.hub.repositories import MAIN, HubFile, Kind, Repository, Snapshot, commit_id, when
from api.hub.routes import unknown_entry
from api.parts import Parts
from jobspecs.pieces import StoredFile
from jobspecs.rights import Principal
from storage.repositories.registry.hub import Listing


def snapshot(parts: Parts, user: Principal, repository: Repository, revision: str = MAIN) -> Snapshot:
    """Raises ApiError 404."""
    with parts.database.unit_of_work() as work:
        found = snapshots.snapshot(work, user, repository, revision)
        tar = snapshots.tar_of(work, user, found)
    return found if tar is None else with_members(parts, found, tar)


def located(
    parts: Parts, user: Principal, repository: Repository, revision: str, path: str
) -> tuple[Snapshot, HubFile, StoredFile | None]:
    """A file, and where its bytes are: None for a text that the platform makes.

    Raises ApiError 404, EntryNotFound among them.
    """
    found = snapshot(parts, user, repository, revision)
    file = found.file(path)
    if file is None:
        raise unknown_entry(repository, path, found.commit)
    with parts.database.unit_of_work() as work:
        return found, file, snapshots.stored(work, user, found, file)


def listed(parts: Parts, user: Principal, kind: Kind, wanted: Listing) -> list[Snapshot]:
    """The newest version of each, by name."""
    # PostgreSQL takes no NUL character, and no name has one.
    if "\0" in wanted.search + wanted.author + wanted.after:
        return []
    with parts.database.reading() as work:
        if kind == "models":
            return [snapshots.of_model(row) for row in work.hub.newest_models(user.reach("models.read"), wanted)]
        return [snapshots.of_dataset(row) for row in work.hub.newest_datasets(user.reach("datasets.read"), wanted)]


def tree(found: Snapshot, folder: str, *, recursive: bool, expand: bool) -> list[TreeEntry]:
    """Files and folders below `folder`, by path. Raises ApiError 404 for a folder that is not there."""
    folder = folder.strip("/")
    start = f"{folder}/" if folder else ""
    inside = [file for file in found.files if file.path.startswith(start)]
    if folder and not inside:
        raise unknown_entry(found.repository, folder, found.commit)
    entries: dict[str, TreeEntry] = {}
    for file in inside:
        parts = file.path.removeprefix(start).split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            path = start + "/".join(parts[:depth])
            entries.setdefault(path, folder_of(path, _folder_oid(found, path), found, expand=expand))
        if recursive or len(parts) == 1:
            entries[file.path] = entry_of(file, found, expand=expand)
    return [entries[path] for path in sorted(entries)]


def entries_at(found: Snapshot, paths: list[str], *, expand: bool) -> list[TreeEntry]:
    """Those of the paths that are there, as files or folders; the others are left out."""
    every = {entry.path: entry for entry in tree(found, "", recursive=True, expand=expand)}
    return [every[path] for path in dict.fromkeys(path.strip("/") for path in paths) if path in every]


def refs(parts: Parts, user: Principal, repository: Repository) -> Refs:
    with parts.database.unit_of_work() as work:
        numbered = snapshots.history(work, user, repository)
        moved = snapshots.aliases(work, user, repository)
    commits = {at.version: commit_id(at.digest, at.version) for at in numbered}
    branches = {MAIN: numbered[0].version, **moved}
    return Refs(
        branches=[
            Ref(name=name, ref=f"refs/heads/{name}", targetCommit=commits[version])
            for name, version in branches.items()
            if version in commits
        ],
        tags=[
            Ref(name=str(version), ref=f"refs/tags/{version}", targetCommit=commit)
            for version, commit in commits.items()
        ],
    )


def commits(parts: Parts, user: Principal, repository: Repository, revision: str) -> list[Commit]:
    """The versions up to the one that the revision means, newest first."""
    with parts.database.unit_of_work() as work:
        last = snapshots.snapshot(work, user, repository, revision).version
        numbered = snapshots.history(work, user, repository)
    return [
        Commit(
            id=commit_id(at.digest, at.version),
            title=f"version {at.version}",
            authors=[{"user": repository.owner}],
            date=when(at.created_at),
        )
        for at in numbered
        if at.version <= last
    ]


def _folder_oid(found: Snapshot, path: str) -> str:
    return hashlib.sha256(f"{found.commit}\0{path}".encode()).hexdigest()[:40]
