"""How a backup folder looks.

objects/3f/3fa9…            every object once, named by its sha256
2026-01-31T12-00-00.0Z/     one backup: manifest.json, database.dump, and secrets.json where asked for
.2026-….part/               one that was not finished; the next backup removes it
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

FORMAT = 1
DUMP, MANIFEST, SECRETS = "database.dump", "manifest.json", "secrets.json"
_NAME = "%Y-%m-%dT%H-%M-%S.%fZ"


class BackupError(Exception):
    """A backup can't be made or restored; the message says why and what to do."""


class BackedUpObject(BaseModel):
    """One object of the bucket; its bytes are those of `objects/` with this sha256."""

    model_config = ConfigDict(frozen=True)

    key: str
    sha256: str
    bytes: int


class BackupManifest(BaseModel):
    """What a backup holds."""

    format: int = FORMAT
    made_at: datetime
    #: The newest migration of the database.
    revision: str
    dump_bytes: int
    dump_sha256: str
    objects: list[BackedUpObject]
    #: Keys that the database names and whose bytes could not be had: missing or damaged in the object store.
    damaged: list[str]


class Archive:
    """A folder of backups."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder (mode 700) and keeps other backups out. Raises BackupError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise BackupError(f"another backup is being written to {self.folder}; wait for it to end") from None
        finally:
            os.close(descriptor)

    def object_path(self, sha256: str) -> Path:
        return self.folder / "objects" / sha256[:2] / sha256

    def begin(self) -> Path:
        """An empty folder for a new backup; unfinished ones are removed.

        Its name comes behind those of the finished ones, whatever the clock says: the newest is restored, and stays.
        Raises BackupError when the name of the last one is no time.
        """
        for left in self.folder.glob(".*.part"):
            shutil.rmtree(left)
        name = datetime.now(UTC).strftime(_NAME)
        if (finished := self._finished()) and finished[-1].name >= name:
            name = _name_behind(finished[-1])
        draft = self.folder / f".{name}.part"
        draft.mkdir(mode=0o700)
        return draft

    def finish(self, draft: Path, manifest: BackupManifest) -> Path:
        """Makes the backup visible, in one step, when all that belongs to it is on the disk."""
        (draft / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        for path in (*draft.iterdir(), draft):
            synchronise(path)
        target = self.folder / draft.name.removeprefix(".").removesuffix(".part")
        draft.rename(target)
        synchronise(self.folder)
        return target

    def newest(self) -> Path:
        """The newest finished backup. Raises BackupError when there is none."""
        finished = self._finished()
        if not self.folder.is_dir():
            raise BackupError(f"{self.folder} is no folder; name the folder given to `backup`")
        if not finished:
            raise BackupError(f"there is no finished backup in {self.folder}; name the folder given to `backup`")
        return finished[-1]

    def prune(self, keep: int) -> list[Path]:
        """Removes all but the newest `keep` backups, then the objects that none of those names; returns the backups.

        The caller holds the lock. Raises BackupError, and removes nothing, when the manifest of a kept one is damaged,
        or of a newer version: nobody knows which objects it needs. Broken off, it leaves too much, which the next one
        removes.
        """
        finished = self._finished()
        removed, kept = finished[:-keep], finished[-keep:]
        needed = {entry.sha256 for backup in kept for entry in _manifest_of(backup).objects}
        for backup in removed:
            # Out of sight first: what is half removed must never be restored.
            hidden = backup.rename(self.folder / f".{backup.name}.part")
            synchronise(self.folder)
            shutil.rmtree(hidden)
        for path in (self.folder / "objects").glob("*/*"):
            if path.name not in needed:
                path.unlink()
        return removed

    def _finished(self) -> list[Path]:
        """Oldest first: their names are times."""
        return sorted(path.parent for path in self.folder.glob(f"[0-9]*/{MANIFEST}"))


def read_manifest(backup: Path) -> BackupManifest:
    """Raises BackupError unless the manifest can be understood and the dump is the one that it describes."""
    manifest = _manifest_of(backup)
    if sha256_of(backup / DUMP) != manifest.dump_sha256:
        raise BackupError(f"{backup / DUMP} is damaged: it has not the sha256 of the manifest; use an older backup")
    return manifest


def _manifest_of(backup: Path) -> BackupManifest:
    try:
        manifest = BackupManifest.model_validate_json((backup / MANIFEST).read_bytes())
    except ValidationError as error:
        raise BackupError(
            f"{backup / MANIFEST} is damaged ({error.error_count()} errors); remove that folder to use an older backup"
        ) from error
    if manifest.format != FORMAT:
        raise BackupError(f"{backup} is of a newer version of Eigenwerk; use that version")
    return manifest


def _name_behind(backup: Path) -> str:
    try:
        return (datetime.strptime(backup.name, _NAME).replace(tzinfo=UTC) + timedelta(microseconds=1)).strftime(_NAME)
    except ValueError as error:
        message = f"{backup} would be taken for the newest backup for ever: its name is no time. Move it elsewhere"
        raise BackupError(message) from error


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def synchronise(path: Path) -> None:
    """Writes a file or folder through to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
