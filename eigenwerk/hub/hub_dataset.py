"""A data set of a hub at one commit: what will be fetched, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eigenwerk.errors import EigenwerkError


@dataclass(frozen=True)
class HubFile:
    """A file of a repository. `sha256` is known of large ones, `blob_id` (git's sum) of all."""

    path: str
    bytes: int
    blob_id: str
    sha256: str | None = None

    @property
    def file_name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class HubDataset:
    """What `pull` fetches. `splits`: the files of each part, in the order in which they become rows."""

    repository: str
    #: 40 hexadecimal digits.
    commit: str
    splits: Mapping[str, tuple[HubFile, ...]]
    config: str | None = None
    license: str | None = None
    #: Column -> the names of its classes, which the files may hold as numbers from 0 on.
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: How the card says that texts are read: `delimiter`, `quote`, `encoding`, `columns`, `layout` of `push_dataset`.
    reading: Mapping[str, Any] = field(default_factory=dict)
    #: What was taken for granted or left out, in words.
    notices: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Where the rows come from, for good: `hub:org/name@commit`, with `#config` where there are several."""
        return f"hub:{self.repository}@{self.commit}" + (f"#{self.config}" if self.config else "")

    @property
    def name(self) -> str:
        """What the data set is called unless it is told."""
        return self.repository.rpartition("/")[2]

    @property
    def files(self) -> list[HubFile]:
        return [file for files in self.splits.values() for file in files]

    def refused(self, error: EigenwerkError) -> EigenwerkError:
        """What the platform says of the rows, with what a pull can do about it: splits may have unlike columns."""
        if not error.problems or len(self.splits) == 1:
            return error
        message = f"{error.message} Or take one of its splits ({', '.join(self.splits)}) alone: --split NAME"
        return EigenwerkError(message, error.problems, error.status, code=error.code)

    @property
    def bytes(self) -> int:
        """Of all files, each once."""
        return sum(file.bytes for file in dict.fromkeys(self.files))
