"""Objects that nothing names: written down in the transaction that stops naming them, deleted from the store later.

They are deleted twice: at once, which frees the bytes, and SETTLED_S after they were written down, for what has arrived
since.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobspecs.lifecycle import TERMINAL
from storage.tables import (
    BlobRow,
    CheckpointRow,
    DatasetVersionRow,
    GarbageRow,
    JobRow,
    ModelImportRow,
    ModelVersionRow,
)

#: Seconds before another try, doubled with each up to the longest.
_RETRY_FIRST_S = 60.0
_RETRY_MAX_S = 3600.0
#: Seconds in which files may still arrive below a prefix that nothing names any more: from a host that lost its lease,
#: or from a client of an import that was given up.
SETTLED_S = 3600.0


class GarbageRepository:
    """The garbage table. `prefix`: an object's key, or a folder of objects without a slash at its end."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, prefix: str, *, bytes_total: int, after_s: float = 0.0) -> None:
        """To be deleted `after_s` seconds from now, or earlier when that was said before."""
        due_at = func.clock_timestamp() + text("make_interval(secs => :after_s)").bindparams(after_s=after_s)
        values = {"prefix": prefix, "bytes": bytes_total, "due_at": due_at, "tries": 0}
        earlier = insert(GarbageRow).values(values)
        due_at = func.least(GarbageRow.due_at, earlier.excluded.due_at)
        self._session.execute(earlier.on_conflict_do_update(index_elements=["prefix"], set_={"due_at": due_at}))

    def take_back(self, prefix: str) -> bool:
        """It is named from now on. False when it is too late: its objects may be gone already."""
        taken = delete(GarbageRow).where(GarbageRow.prefix == prefix, GarbageRow.tries == 0)
        return self._session.scalars(taken.returning(GarbageRow.prefix)).one_or_none() is not None

    def claim(self, limit: int = 100) -> Sequence[str]:
        """Prefixes whose time has come, the next try of each put off. Any number of processes may claim at once."""
        due = select(GarbageRow.prefix).where(GarbageRow.due_at <= func.clock_timestamp())
        due = due.order_by(GarbageRow.due_at).limit(limit).with_for_update(skip_locked=True)
        wait_s = func.least(_RETRY_MAX_S, _RETRY_FIRST_S * func.pow(2, func.least(GarbageRow.tries, 10)))
        later = func.clock_timestamp() + wait_s * text("interval '1 second'")
        claimed = update(GarbageRow).where(GarbageRow.prefix.in_(due.scalar_subquery()))
        claimed = claimed.values(tries=GarbageRow.tries + 1, due_at=later).returning(GarbageRow.prefix)
        return self._session.scalars(claimed).all()

    def forget(self, prefix: str) -> None:
        """Its objects are gone. Until SETTLED_S after it was written down it stays, to be deleted once more then."""
        settled_at = GarbageRow.created_at + text("make_interval(secs => :settled_s)").bindparams(settled_s=SETTLED_S)
        this = GarbageRow.prefix == prefix
        self._session.execute(delete(GarbageRow).where(this, settled_at <= func.clock_timestamp()))
        self._session.execute(update(GarbageRow).where(this).values(due_at=settled_at, bytes=0))

    def written_down(self, prefixes: Collection[str]) -> set[str]:
        """Those of `prefixes` that are garbage already, or that a push is sending."""
        return set(self._session.scalars(select(GarbageRow.prefix).where(GarbageRow.prefix.in_(prefixes))))

    def bytes_waiting(self) -> int:
        """Bytes that nothing names and that go within SETTLED_S; what a push is sending just now isn't among them."""
        soon = func.clock_timestamp() + text("make_interval(secs => :settled_s)").bindparams(settled_s=SETTLED_S)
        waiting = or_(GarbageRow.due_at <= soon, GarbageRow.tries > 0)
        return int(self._session.scalar(select(func.coalesce(func.sum(GarbageRow.bytes), 0)).where(waiting)) or 0)

    def named_by_versions(self, prefixes: Collection[str]) -> set[str]:
        """Those of `prefixes` in which the files of a model's or data set's version lie."""
        folder = func.regexp_replace(DatasetVersionRow.key, "/[^/]*$", "")
        models = select(ModelVersionRow.prefix).where(ModelVersionRow.prefix.in_(prefixes))
        datasets = select(folder).where(folder.in_(prefixes))
        return {*self._session.scalars(models), *self._session.scalars(datasets)}

    def named(self, prefixes: Collection[str]) -> set[str]:
        """Those of `prefixes` that a row names, or that a running job or import may yet name."""
        # Jobs and imports first: one that ends meanwhile is found by what it made. The other way round it would be
        # found by neither, because each statement sees what was committed before itself.
        found = self._maybe_named(prefixes)
        blobs = self._by_id(prefixes, "blobs")
        kept = self._session.scalars(select(BlobRow.id).where(BlobRow.id.in_(blobs)))
        found |= {prefix for blob_id in kept for prefix in blobs[blob_id]}
        found |= set(self._session.scalars(select(CheckpointRow.prefix).where(CheckpointRow.prefix.in_(prefixes))))
        return found | self.named_by_versions(prefixes)

    def _maybe_named(self, prefixes: Collection[str]) -> set[str]:
        imports, artifacts, checkpoints = (
            self._by_id(prefixes, room) for room in ("models", "artifacts", "checkpoints")
        )
        known = self._session.scalars(select(ModelImportRow.id).where(ModelImportRow.id.in_(imports)))
        # One job may have both.
        jobs = {job_id: artifacts.get(job_id, []) + checkpoints.get(job_id, []) for job_id in artifacts | checkpoints}
        active = select(JobRow.id).where(JobRow.id.in_(jobs), JobRow.state.not_in([str(state) for state in TERMINAL]))
        found = {prefix for import_id in known for prefix in imports[import_id]}
        return found | {prefix for job_id in self._session.scalars(active) for prefix in jobs[job_id]}

    def _by_id(self, prefixes: Collection[str], room: str) -> dict[UUID, list[str]]:
        """Id -> prefixes of the form `room`/id, or below."""
        found: dict[UUID, list[str]] = {}
        for prefix in prefixes:
            first, _, rest = prefix.partition("/")
            if first == room:
                try:
                    found.setdefault(UUID(rest.partition("/")[0]), []).append(prefix)
                except ValueError:
                    continue  # no key of this platform's making
        return found
