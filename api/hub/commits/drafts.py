"""A push that is no version yet, and how it becomes one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from api.hub.contents import Content, hold
from api.hub.pushed_files import describes
from api.hub.pushes import owner_of
from api.hub.reading import snapshots
from api.hub.repositories import Kind, Repository, commit_id
from api.parts import Parts
from api.registry.imported_files import ADAPTER_CONFIG, CONFIG
from jobspecs.manifest import Manifest, ModelOrigin
from jobspecs.rights import Principal

#: Seconds after which another push may take the place of one that is not whole.
ABANDONED_S = 60.0


@dataclass(frozen=True)
class Draft:
    """A push after one more commit."""

    files: dict[str, Content]
    written: frozenset[str]
    #: What the client said it would send and has not.
    awaited: frozenset[str]
    #: What it was based on: commits of the push, and the newest version.
    commits: int
    version: int

    def manifest(self, task: str | None = None, base: ModelOrigin | None = None) -> Manifest:
        files = tuple(content.file(path) for path, content in sorted(self.files.items()))
        return Manifest(artifact="model", task=task, base=base, files=files, report={"source": "push"})


@dataclass(frozen=True)
class Made:
    """What was found out about a push that is a version: of a model what it serves, of a data set its commit."""

    task: str | None = None
    base: ModelOrigin | None = None
    commit: str | None = None
    #: Of a model, that its card names.
    license: str | None = None


def is_whole(kind: Kind, paths: Collection[str]) -> bool:
    """Whether files of these paths are a version."""
    if kind == "datasets":
        return any(not describes(path) for path in paths)
    weights = any(path.endswith(".safetensors") for path in paths)
    return any(path.endswith(".gguf") for path in paths) or (weights and (CONFIG in paths or ADAPTER_CONFIG in paths))


def written(parts: Parts, user: Principal, repository: Repository, draft: Draft, made: Made | None) -> str | None:
    """Keeps the draft, or registers the version that was made of it; its commit. None when others were quicker."""
    with parts.database.unit_of_work() as work:
        owner_id = owner_of(work, user, repository)
        row = work.hub_pushes.open(owner_id, repository.kind, repository.name)
        if made is not None and made.commit is not None:
            work.hub_pushes.close(row)
            return made.commit
        newest = snapshots.snapshot(work, user, repository)
        if (row.commits, newest.version) != (draft.commits, draft.version):
            return None
        hold(work, draft.files.values())
        manifest = draft.manifest()
        if made is None:
            files = {path: content.document for path, content in draft.files.items()}
            work.hub_pushes.change(row, files=files, written=draft.written, announced=draft.awaited)
            return commit_id(manifest.digest, draft.version + 1)
        work.hub_pushes.close(row)
        if newest.commit == commit_id(manifest.digest, newest.version):
            # Nothing has changed.
            return newest.commit
        manifest = draft.manifest(made.task, made.base)
        version = work.models.add_version(owner_id, repository.name, manifest=manifest, license=made.license)
        pieces = {path: [piece.sha256 for piece in content.pieces] for path, content in draft.files.items()}
        work.blobs.attach(version.id, pieces)
        return commit_id(version.digest, version.version)
