"""Pushes through the hub's protocol, and the content that was sent for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobspecs.rights import Reach
from storage.repositories.owners import named, within
from storage.repositories.registry.blobs import HELD_S
from storage.tables import BlobRow, HubPushRow, HubUploadRow, HubXorbRow

#: Seconds for which clients may name again what they sent; within these a push sends only what is new.
XORBS_KEPT_S = 8 * 24 * 3600.0
#: Seconds after which what a client said it would send is taken for given up.
FORGOTTEN_S = 600.0


class HubPushRepository:
    """The tables hub_pushes, hub_uploads and hub_xorbs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, reach: Reach, kind: str, owner: str, name: str) -> HubPushRow | None:
        """The repository that is empty, or the push that is under way."""
        query = select(HubPushRow).where(named(reach, HubPushRow.owner_id, owner))
        query = query.where(HubPushRow.kind == kind, HubPushRow.name == name)
        return self._session.scalars(query.execution_options(populate_existing=True)).one_or_none()

    def open(self, owner_id: UUID, kind: str, name: str, announced: Collection[str] = ()) -> HubPushRow:
        """The push under this name, locked and begun if there was none; these paths are said to follow."""
        begun = insert(HubPushRow).values(owner_id=owner_id, kind=kind, name=name)
        # An update that changes nothing, because it locks the row: one that is only found may be gone when it is read.
        locked = begun.on_conflict_do_update(index_elements=["kind", "owner_id", "name"], set_={"name": name})
        push_id = self._session.scalars(locked.returning(HubPushRow.id)).one()
        row = self._session.get_one(HubPushRow, push_id, populate_existing=True)
        earlier = () if self.is_quiet(row, FORGOTTEN_S) else row.announced
        row.announced = sorted({*earlier, *announced})
        row.touched_at = self._now()
        self._session.flush()
        return row

    def is_quiet(self, row: HubPushRow, for_s: float) -> bool:
        """Whether nothing was heard of it for so long."""
        return bool(self._session.scalar(select(_ago(for_s) > row.touched_at)))

    def change(
        self, row: HubPushRow, *, files: Mapping[str, Any], written: Collection[str], announced: Collection[str]
    ) -> None:
        """What it is after one more commit."""
        row.files, row.written, row.announced = dict(files), sorted(written), sorted(announced)
        row.commits += 1
        row.touched_at = self._now()
        self._session.flush()

    def close(self, row: HubPushRow) -> None:
        """It became a version, or was given up."""
        self._session.delete(row)
        self._session.flush()

    def touch(self, owner_id: UUID, kind: str, name: str) -> None:
        """Something of it arrived."""
        this = (HubPushRow.kind == kind, _owned(HubPushRow, owner_id), HubPushRow.name == name)
        self._session.execute(update(HubPushRow).where(*this).values(touched_at=func.clock_timestamp()))

    def quiet(self, for_s: float, at_most_s: float, limit: int = 20) -> Sequence[HubPushRow]:
        """Pushes with commits of which nothing was heard for so many seconds, the longest silent first."""
        silent = (HubPushRow.touched_at < _ago(for_s), HubPushRow.touched_at > _ago(at_most_s))
        query = select(HubPushRow).where(HubPushRow.commits > 0, *silent)
        return self._session.scalars(query.order_by(HubPushRow.touched_at).limit(limit)).all()

    def upload(self, owner_id: UUID, sha256: str, *, lock: bool = False) -> HubUploadRow | None:
        query = select(HubUploadRow).where(_owned(HubUploadRow, owner_id), HubUploadRow.sha256 == sha256)
        query = query.execution_options(populate_existing=True)
        return self._session.scalars(query.with_for_update() if lock else query).one_or_none()

    def begin_upload(self, owner_id: UUID, sha256: str, bytes_total: int) -> None:
        """Content of this sum and size is going to arrive in parts."""
        values = {"owner_id": owner_id, "sha256": sha256, "bytes": bytes_total}
        self._session.execute(insert(HubUploadRow).values(values).on_conflict_do_nothing())

    def add_part(self, owner_id: UUID, sha256: str, number: int, part: Mapping[str, Any]) -> None:
        """A part is stored; sent again it replaces the earlier one."""
        row = self.upload(owner_id, sha256, lock=True)
        if row is not None:
            row.parts = {**row.parts, str(number): dict(part)}
            self._session.flush()

    def complete_upload(
        self, owner_id: UUID, sha256: str, bytes_total: int, pieces: Sequence[Mapping[str, Any]]
    ) -> None:
        """All of it is stored and has this sum."""
        values = {"owner_id": owner_id, "sha256": sha256, "bytes": bytes_total, "pieces": list(pieces)}
        changed = {"bytes": bytes_total, "pieces": list(pieces), "parts": {}, "created_at": func.clock_timestamp()}
        made = insert(HubUploadRow).values(values)
        self._session.execute(made.on_conflict_do_update(index_elements=["owner_id", "sha256"], set_=changed))

    def uploaded(self, owner_id: UUID, sha256s: Collection[str]) -> dict[str, HubUploadRow]:
        """Those that are whole."""
        query = select(HubUploadRow).where(_owned(HubUploadRow, owner_id), HubUploadRow.sha256.in_(sha256s))
        return {row.sha256: row for row in self._session.scalars(query) if row.pieces is not None}

    def add_xorb(self, owner_id: UUID, name: str, sha256: str, bytes_total: int) -> None:
        values = {"owner_id": owner_id, "hash": name, "sha256": sha256, "bytes": bytes_total}
        changed = {"sha256": sha256, "bytes": bytes_total, "created_at": func.clock_timestamp()}
        made = insert(HubXorbRow).values(values)
        self._session.execute(made.on_conflict_do_update(index_elements=["owner_id", "hash"], set_=changed))

    def xorbs(self, owner_id: UUID, names: Collection[str]) -> dict[str, tuple[str, int]]:
        """Name -> key and bytes of its object; those that the owner has not sent, or long ago, are left out."""
        query = select(HubXorbRow.hash, BlobRow).join(BlobRow, BlobRow.sha256 == HubXorbRow.sha256)
        query = query.where(_owned(HubXorbRow, owner_id), HubXorbRow.hash.in_(names), BlobRow.stored_at.is_not(None))
        return {name: (blob.key, blob.bytes) for name, blob in self._session.execute(query).all()}

    def sweep(self) -> None:
        """Forgets content that no commit named in time."""
        self._session.execute(delete(HubUploadRow).where(HubUploadRow.created_at < _ago(HELD_S)))
        self._session.execute(delete(HubXorbRow).where(HubXorbRow.created_at < _ago(XORBS_KEPT_S)))

    def _now(self) -> Any:
        return self._session.scalar(select(func.clock_timestamp()))


def _owned(rows: type[HubPushRow | HubUploadRow | HubXorbRow], owner_id: UUID) -> ColumnElement[bool]:
    return within(Reach.of(owner_id), rows.owner_id)


def _ago(seconds: float) -> ColumnElement[Any]:
    # Years to minutes are none. A text with a named parameter could stand in a statement only once.
    return func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, seconds)
