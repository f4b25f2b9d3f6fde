"""Repositories that are made and deleted, and what clients ask before they send: which way, and what is there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from api.datasets import deleting as dataset_deleting
from api.hub.contents import Content, content_of
from api.hub.pushed_files import check_path, is_left_out, way_of
from api.hub.reading import snapshots
from api.hub.repositories import MAIN, Repository
from api.hub.routes import refusal, unknown_repository
from api.hub.write_schemas import FileWay, PathToSend
from api.parts import Parts
from api.registry import deleting as model_deleting
from jobspecs.rights import Principal
from storage.database import UnitOfWork
from storage.repositories.registry.blobs import HELD_S
from storage.tables import HubPushRow

#: Seconds for which a push that isn't whole waits for its next commit.
_KEPT_S = HELD_S / 2


def owner_of(work: UnitOfWork, user: Principal, repository: Repository) -> UUID:
    """Raises ApiError 404 where the user may not push."""
    owner = work.owners.find(user.reach(repository.writing), repository.owner)
    if owner is None:
        raise unknown_repository(repository)
    return owner.id


def create(parts: Parts, user: Principal, repository: Repository) -> bool:
    """Whether there was none. Raises ApiError 404."""
    with parts.database.unit_of_work() as work:
        owner_id = owner_of(work, user, repository)
        if snapshots.exists(work, user, repository):
            return False
        work.hub_pushes.open(owner_id, repository.kind, repository.name)
        return True


def delete(parts: Parts, user: Principal, repository: Repository) -> None:
    """Raises ApiError 404; 409 while a version is in use."""
    with parts.database.unit_of_work() as work:
        owner_id = owner_of(work, user, repository)
        if not snapshots.exists(work, user, repository):
            raise unknown_repository(repository)
        has_versions = snapshots.snapshot(work, user, repository).version > 0
        push = find_push(work, user, repository)
    if has_versions and repository.kind == "models":
        model_deleting.delete(parts, user, repository.owner, repository.name, None, dry_run=False)
    elif has_versions:
        dataset_deleting.delete(parts, user, repository.reference, dry_run=False)
    if push is not None:
        with parts.database.unit_of_work() as work:
            work.hub_pushes.close(work.hub_pushes.open(owner_id, repository.kind, repository.name))


def ways(
    parts: Parts, user: Principal, repository: Repository, revision: str, files: Collection[PathToSend]
) -> list[FileWay]:
    """How each shall be sent. What will be committed is known from now on: until then the push is not over.

    Raises ApiError 404, InvalidInput for what no version may have.
    """
    check_branch(repository, revision)
    wanted = [file.path for file in files if not is_left_out(file.path)]
    for path in wanted:
        check_path(repository.kind, path)
    with parts.database.unit_of_work() as work:
        owner_id = owner_of(work, user, repository)
        if not snapshots.exists(work, user, repository):
            raise unknown_repository(repository)
        work.hub_pushes.open(owner_id, repository.kind, repository.name, wanted)
    return [
        FileWay(
            path=file.path,
            uploadMode=way_of(repository.kind, file.path, file.size),
            shouldIgnore=is_left_out(file.path),
        )
        for file in files
    ]


def check_branch(repository: Repository, revision: str) -> None:
    """Raises ApiError 404 for any branch but main."""
    if revision.removeprefix("refs/heads/") != MAIN:
        message = f"{repository} has one branch, main. Push to it, and name the version with an alias afterwards."
        raise refusal("RevisionNotFound", message)


def known(work: UnitOfWork, user: Principal, repository: Repository, sha256s: Collection[str]) -> dict[str, Content]:
    """sha256 -> content that this owner sent, or that is in this repository. What others have is not known here."""
    owner_id = owner_of(work, user, repository)
    begun = has_begun(work, find_push(work, user, repository))
    files = current_files(work, user, repository, begun=begun)
    there = {content.sha256: content for content in files.values() if content.sha256 in sha256s}
    return there | _uploaded(work, owner_id, sha256s)


def current_files(work: UnitOfWork, user: Principal, repository: Repository, *, begun: bool) -> Mapping[str, Content]:
    """Path -> content of what a commit changes: the push that has `begun`, or a model's newest version."""
    push = find_push(work, user, repository)
    if push is not None and begun:
        return {path: Content.model_validate(document) for path, document in push.files.items()}
    if repository.kind == "datasets":
        # Each push is all of a data set: its version is one file, whatever it was made of.
        return {}
    newest = work.models.find(user.reach(repository.writing), repository.reference)
    if newest is None:
        return {}
    files = work.blobs.files_of(newest)
    if newest.prefix is None:
        return {file.path: content_of(file) for file in files}
    sent = _uploaded(work, newest.model.owner_id, [file.sha256 for file in files])
    return {file.path: sent[file.sha256] for file in files if file.sha256 in sent}


def find_push(work: UnitOfWork, user: Principal, repository: Repository) -> HubPushRow | None:
    """The empty repository, or the push that is under way."""
    return work.hub_pushes.find(user.reach(repository.writing), repository.kind, repository.owner, repository.name)


def has_begun(work: UnitOfWork, push: HubPushRow | None) -> bool:
    """Whether there is a push with commits that the next one goes on from: its content is still held."""
    return push is not None and push.commits > 0 and not work.hub_pushes.is_quiet(push, _KEPT_S)


def _uploaded(work: UnitOfWork, owner_id: UUID, sha256s: Collection[str]) -> dict[str, Content]:
    return {
        sha256: Content.model_validate({"bytes": row.bytes, "sha256": sha256, "pieces": row.pieces})
        for sha256, row in work.hub_pushes.uploaded(owner_id, sha256s).items()
    }
