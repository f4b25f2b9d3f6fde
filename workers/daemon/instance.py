"""Who works under a host's name. Names come from people, and two machines may have got the same one.

The instance is that of the scratch folder: a worker that is restarted on it takes its own name back at once; another
one has to wait until the first has been silent for as long as a lease lasts.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TextIO
from uuid import UUID, uuid4

from storage.database import UnitOfWork

Role = Literal["jobs", "serving"]

_LOCK_NAME = "worker.lock"


class FolderInUse(Exception):
    """Another worker works in this folder. Give each worker an EIGENWERK_SCRATCH_DIR of its own."""


class HostNameTaken(Exception):
    """Another worker of this role works under the host's name."""


@contextmanager
def folder_instance(folder: Path) -> Iterator[UUID]:
    """Holds the folder for this process and tells its instance, made at its first use. Raises FolderInUse."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK_NAME).open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderInUse(
                f"another worker works in {folder}. Give each an EIGENWERK_SCRATCH_DIR of its own."
            ) from error
        yield _instance_in(lock)


def _instance_in(lock: TextIO) -> UUID:
    lock.seek(0)
    try:
        return UUID(lock.read().strip())
    except ValueError:
        instance = uuid4()
        lock.truncate(0)
        lock.write(str(instance))
        lock.flush()
        return instance


def hold_name(work: UnitOfWork, host: str, role: Role, instance: UUID, *, silent_s: float) -> None:
    """Takes or keeps the host's name for the instance. Raises HostNameTaken when another was seen in `silent_s`."""
    age_s = work.hosts.hold(host, role, instance, silent_s=silent_s)
    if age_s is not None:
        raise HostNameTaken(
            f"another worker works under the name {host!r}: it was seen {age_s:.0f} s ago. Give this one an "
            f"EIGENWERK_HOST_NAME of its own; if the other is gone for good, start again in {silent_s - age_s:.0f} s."
        )
