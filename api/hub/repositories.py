"""What a repository of the hub is here: a model or a data set, whose versions are its commits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from jobspecs.references import Reference
from jobspecs.rights import Action

Kind = Literal["models", "datasets"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: The branch that means the newest version.
MAIN = "main"


@dataclass(frozen=True)
class Repository:
    """`owner/name` of one kind."""

    kind: Kind
    owner: str
    name: str

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def noun(self) -> str:
        return "model" if self.kind == "models" else "data set"

    @property
    def reading(self) -> Action:
        return "models.read" if self.kind == "models" else "datasets.read"

    @property
    def writing(self) -> Action:
        return "models.write" if self.kind == "models" else "datasets.write"

    @property
    def reference(self) -> Reference:
        return Reference(owner=self.owner, name=self.name)


@dataclass(frozen=True)
class HubFile:
    """One file of a snapshot: an object of the store, or a text that the platform makes."""

    path: str
    size_bytes: int
    sha256: str
    text: bytes | None = None
    #: Where it begins and ends in the tar that it is a part of. Then `sha256` names it and isn't its sum.
    span: tuple[int, int] | None = None

    @property
    def pointer(self) -> bytes:
        """What a git repository would hold in its place. Clients compare the sum of small files with git's."""
        lines = f"oid sha256:{self.sha256}\nsize {self.size_bytes}\n"
        return f"version https://git-lfs.github.com/spec/v1\n{lines}".encode()

    @property
    def oid(self) -> str:
        """git's name of the pointer."""
        content = self.pointer
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Snapshot:
    """One version as a commit."""

    repository: Repository
    #: 0: nothing was pushed yet.
    version: int
    commit: str
    created_at: datetime
    files: tuple[HubFile, ...]
    #: What it serves; None for data sets, encoders and the like.
    task: str | None = None
    library: str | None = None
    tags: tuple[str, ...] = ()
    private: bool = True
    #: Names of the files that are together in a data set's tar.
    members: tuple[str, ...] = ()

    def file(self, path: str) -> HubFile | None:
        return next((file for file in self.files if file.path == path), None)


def commit_id(digest: str, version: int) -> str:
    """40 hex digits that name a version for ever: a number is never given again, and its files never change."""
    return hashlib.sha256(f"{digest}@{version}".encode()).hexdigest()[:40]


def when(moment: datetime) -> str:
    """As clients parse it: with milliseconds and Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
