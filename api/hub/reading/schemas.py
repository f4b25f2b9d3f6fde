"""The shapes of the hub's answers, of which its clients read what is here and do without the rest."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from api.hub.repositories import HubFile, Snapshot, when


class LfsPart(BaseModel):
    #: Of files its sha256.
    sha256: str
    size: int
    pointerSize: int


class Sibling(BaseModel):
    rfilename: str
    #: With `blobs=true` only.
    size: int | None = None
    blobId: str | None = None
    lfs: LfsPart | None = None


class RepositoryInfo(BaseModel):
    """A repository at a revision. `sha` is the commit; `version` is ours."""

    #: The hub's own number of it, which nothing here has: the name again.
    internal_id: str = Field(serialization_alias="_id")
    id: str
    author: str
    sha: str
    version: int
    lastModified: str
    createdAt: str
    private: bool
    gated: bool = False
    disabled: bool = False
    downloads: int = 0
    likes: int = 0
    tags: list[str]
    siblings: list[Sibling]


class ModelInfo(RepositoryInfo):
    modelId: str
    pipeline_tag: str | None = None
    library_name: str | None = None


class TreeLfs(BaseModel):
    oid: str
    size: int
    pointerSize: int


class TreeEntry(BaseModel):
    """A file, or a folder, of which nothing but `path` and `oid` says anything."""

    type: Literal["file", "directory"]
    oid: str
    size: int
    path: str
    lfs: TreeLfs | None = None
    #: With `expand=true` only.
    lastCommit: dict[str, str] | None = None


class Ref(BaseModel):
    name: str
    ref: str
    targetCommit: str


class Refs(BaseModel):
    """main and the aliases, which move, are branches; the versions are tags."""

    branches: list[Ref]
    tags: list[Ref]
    converts: list[Ref] = []


class Commit(BaseModel):
    id: str
    title: str
    message: str = ""
    authors: list[dict[str, str]]
    date: str


class WhoAmI(BaseModel):
    type: Literal["user"] = "user"
    id: str
    name: str
    fullname: str
    email: str | None = None
    isPro: bool = False
    orgs: list[Any] = []
    auth: dict[str, Any]


class PathsWanted(BaseModel):
    paths: list[str] = Field(max_length=10_000)
    expand: bool = False


def info_of(snapshot: Snapshot, *, blobs: bool = False) -> RepositoryInfo:
    repository = snapshot.repository
    values: dict[str, Any] = {
        "internal_id": str(repository),
        "id": str(repository),
        "author": repository.owner,
        "sha": snapshot.commit,
        "version": snapshot.version,
        "lastModified": when(snapshot.created_at),
        "createdAt": when(snapshot.created_at),
        "private": snapshot.private,
        "tags": list(snapshot.tags),
        "siblings": [_sibling(file, blobs=blobs) for file in snapshot.files],
    }
    if repository.kind == "datasets":
        return RepositoryInfo(**values)
    return ModelInfo(**values, modelId=str(repository), pipeline_tag=snapshot.task, library_name=snapshot.library)


def entry_of(file: HubFile, snapshot: Snapshot, *, expand: bool = False) -> TreeEntry:
    return TreeEntry(
        type="file",
        oid=file.oid,
        size=file.size_bytes,
        path=file.path,
        lfs=_large(file),
        lastCommit=_last_commit(snapshot) if expand else None,
    )


def _large(file: HubFile) -> TreeLfs | None:
    """Its sum, where that is known."""
    return TreeLfs(oid=file.sha256, size=file.size_bytes, pointerSize=len(file.pointer)) if file.span is None else None


def folder_of(path: str, oid: str, snapshot: Snapshot, *, expand: bool = False) -> TreeEntry:
    last = _last_commit(snapshot) if expand else None
    return TreeEntry(type="directory", oid=oid, size=0, path=path, lastCommit=last)


def _last_commit(snapshot: Snapshot) -> dict[str, str]:
    return {"id": snapshot.commit, "title": f"version {snapshot.version}", "date": when(snapshot.created_at)}


def _sibling(file: HubFile, *, blobs: bool) -> Sibling:
    if not blobs or file.span is not None:
        return Sibling(rfilename=file.path)
    lfs = LfsPart(sha256=file.sha256, size=file.size_bytes, pointerSize=len(file.pointer))
    return Sibling(rfilename=file.path, size=file.size_bytes, blobId=file.oid, lfs=lfs)
