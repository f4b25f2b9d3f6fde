"""Finds objects that no row names: what arrived after all was deleted, or was left before deletions were written down.

Safe beside transfers: a push is written down as garbage before it sends a byte, what a running job or an open import
sends is named by it, and nothing younger than UNNAMED_FOR is looked at. Safe beside a restore: it sends the objects
first, before the database has tables, and names all of them in one transaction. Safe for what was in the bucket before
the platform: a new home on the bucket of a lost one touches nothing. Otherwise a bucket belongs to one platform.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from uuid import UUID

from storage.database import Database
from storage.objects import ObjectInfo, ObjectStore
from storage.repositories.registry.garbage import SETTLED_S

log = logging.getLogger(__name__)

#: Twice the longest that a push may take.
UNNAMED_FOR = timedelta(hours=48)
#: How far the clocks of the database and of the object store may be apart.
_CLOCKS_APART = timedelta(minutes=10)
#: Objects that one pass lists, in ten requests; the next pass goes on behind them.
OBJECTS_PER_PASS = 10_000
#: How many parts the prefix of one thing has: what lies below one is named, or goes, as a whole.
_PREFIX_PARTS = {"artifacts": 3, "blobs": 2, "checkpoints": 4, "datasets": 2, "models": 2}
#: How many a key has at least: a blob is an object itself.
_KEY_PARTS = {room: 2 if room == "blobs" else size + 1 for room, size in _PREFIX_PARTS.items()}
#: Prefixes that are compared with the rows at once.
_COMPARED_AT_ONCE = 500


@dataclass(frozen=True)
class _Thing:
    prefix: str
    bytes_total: int
    #: When its youngest object was stored.
    stored_at: datetime


class UnnamedSweep:
    """Walks through the bucket, a stretch in each pass, and begins anew at its end."""

    def __init__(self, database: Database, store: ObjectStore, *, objects_max: int = OBJECTS_PER_PASS) -> None:
        self._database = database
        self._store = store
        self._objects_max = objects_max
        self._after = ""

    def run(self, now: datetime) -> int:
        """Writes down as garbage what nothing names, to go SETTLED_S later; returns how many prefixes.

        Raises DatabaseUnavailable and ObjectStoreError.
        """
        with self._database.unit_of_work() as work:
            born_at = work.users.oldest_made_at()
        if born_at is None:
            return 0
        found, older = 0, 0
        things: list[_Thing] = []
        for thing in self._stretch():
            if thing.stored_at < born_at - _CLOCKS_APART:
                older += 1
            elif thing.stored_at < now - UNNAMED_FOR:
                things.append(thing)
            if len(things) == _COMPARED_AT_ONCE:
                found += self._write_down(things)
                things.clear()
        if older:
            log.info("%d things in the bucket are older than this platform, and stay", older)
        return found + self._write_down(things)

    def _stretch(self) -> Iterator[_Thing]:
        """The next things, whole ones only; afterwards `_after` is where the next pass begins."""
        listed = 0
        for room in _PREFIX_PARTS:
            for prefix, group in groupby(self._store.list(f"{room}/", after=self._after), _prefix_of):
                infos = list(group)
                if prefix is not None:
                    size, stored_at = sum(info.bytes for info in infos), max(info.modified_at for info in infos)
                    yield _Thing(prefix, size, stored_at)
                self._after = infos[-1].key
                listed += len(infos)
                if listed >= self._objects_max:
                    return
        self._after = ""

    def _write_down(self, things: list[_Thing]) -> int:
        with self._database.unit_of_work() as work:
            prefixes = [thing.prefix for thing in things]
            known = work.garbage.named(prefixes) | work.garbage.written_down(prefixes)
            unnamed = [thing for thing in things if thing.prefix not in known]
            for thing in unnamed:
                work.garbage.add(thing.prefix, bytes_total=thing.bytes_total, after_s=SETTLED_S)
        for thing in unnamed:
            log.warning("%s (%d bytes) is named by nothing and goes in an hour", thing.prefix, thing.bytes_total)
        return len(unnamed)


def _prefix_of(info: ObjectInfo) -> str | None:
    """The prefix of the thing that the object belongs to; None for a key that this platform did not make."""
    room, *parts = info.key.split("/")
    size = _PREFIX_PARTS[room]
    try:
        UUID(parts[0])
    except ValueError:
        return None
    return "/".join([room, *parts[: size - 1]]) if 1 + len(parts) >= _KEY_PARTS[room] else None
