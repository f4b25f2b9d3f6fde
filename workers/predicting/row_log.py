"""Results that come row by row: a gzip file that grows by whole windows, and checkpoints of it.

Windows have a fixed size and become one member of the gzip file each, so where a run was broken off changes no byte. A
checkpoint is a folder `step-00004096` with the file as it was after so many rows, its manifest written last.
"""

from __future__ import annotations

import gzip
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from jobspecs.events import CheckpointEvent
from jobspecs.manifest import MANIFEST_NAME, Manifest, describe_files, read_manifest, write_manifest
from workers.run.context import RunContext
from workers.training.checkpoints import KEPT, UnusableCheckpoint

#: Seconds between checkpoints unless the spec counts rows.
_CHECKPOINT_EVERY_S = 60.0
#: From this size on a checkpoint is only made when a quarter more is there: the sum of what is sent stays within five
#: times the result, however large that is.
_LARGE_BYTES, _GROWN_SHARE = 64 << 20, 0.25
_ROWS, _STATE = "rows.gz", "state.json"


@dataclass
class RowLog:
    """`mark`: a fingerprint of all that decides the rows; a checkpoint continues only the run that wrote it."""

    context: RunContext
    path: Path
    mark: str
    every_rows: int | None = None
    clock: Callable[[], float] = time.monotonic
    #: Rows in the file, of a checkpoint at first, and of those the rows that are in one.
    rows: int = 0
    saved: int = 0
    _saved_at_s: float = field(init=False)
    _saved_bytes: int = 0

    def __post_init__(self) -> None:
        self._saved_at_s = self.clock()
        self.path.write_bytes(b"")

    def resume(self, directory: Path) -> None:
        """Takes over the rows of a checkpoint. Raises UnusableCheckpoint, and nothing is taken."""
        rows = _verified(directory, self.mark)
        shutil.copyfile(directory / _ROWS, self.path)
        self.rows = self.saved = rows
        self._saved_bytes = self.path.stat().st_size

    def append(self, rows: int, content: bytes, *, last: bool = False) -> None:
        """A window of so many rows; a checkpoint is made when one is due, and behind the last window."""
        with self.path.open("ab") as stream:
            stream.write(gzip.compress(content, mtime=0))
        self.rows += rows
        if last or self._due():
            self.save()

    def save(self) -> None:
        """A checkpoint of the rows so far, where there are new ones."""
        if self.rows == self.saved:
            return
        directory = self.context.checkpoints_dir / f"step-{self.rows:08d}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        shutil.copyfile(self.path, directory / _ROWS)
        (directory / _STATE).write_text(json.dumps({"rows": self.rows, "fingerprint": self.mark}), encoding="utf-8")
        write_manifest(directory, Manifest(artifact="checkpoint", files=describe_files(directory)))
        _drop_old(self.context.checkpoints_dir)
        self.context.emit(CheckpointEvent(step=self.rows, directory=f"{directory.parent.name}/{directory.name}"))
        self.saved, self._saved_bytes, self._saved_at_s = self.rows, self.path.stat().st_size, self.clock()

    def _due(self) -> bool:
        if self.every_rows is not None:
            return self.rows - self.saved >= self.every_rows
        size = self.path.stat().st_size
        grown = size - self._saved_bytes >= _GROWN_SHARE * self._saved_bytes
        return self.clock() - self._saved_at_s >= _CHECKPOINT_EVERY_S and (size < _LARGE_BYTES or grown)


def _verified(directory: Path, mark: str) -> int:
    """How many rows a checkpoint holds, every file checked against its manifest."""
    try:
        manifest = read_manifest(directory)
        if {file.path for file in manifest.files} != {_ROWS, _STATE} or manifest.files != describe_files(directory):
            raise UnusableCheckpoint(f"{directory.name} does not have the files of its manifest")
        state = json.loads((directory / _STATE).read_bytes())
        if state["fingerprint"] != mark:
            raise UnusableCheckpoint(f"{directory.name} belongs to a run with other data, models or settings")
        return int(state["rows"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnusableCheckpoint(f"{directory.name} can't be read: {type(error).__name__}") from error


def _drop_old(root: Path) -> None:
    for old in sorted(path.parent for path in root.glob(f"step-*/{MANIFEST_NAME}"))[:-KEPT]:
        # Without its manifest first: what is half deleted must not look complete.
        (old / MANIFEST_NAME).unlink()
        shutil.rmtree(old)
