"""Content that is stored once: who keeps it, which files consist of it, and when it goes.

A blob stays while a version's file or an open import refers to it, and until its `keep_until`. Whoever is about to
refer to one holds it first: that moves `keep_until`, in the row that a deletion must lock. A blob that goes is written
down as garbage in the transaction that takes its row away. The next with this content has a row, and a key, of its own,
so nothing that is deleted late can hit what was stored anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, delete, exists, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobspecs.manifest import Manifest
from jobspecs.pieces import Piece, StoredFile, StoredPiece, stored_below
from jobspecs.rights import Reach
from storage.repositories.owners import within
from storage.repositories.registry.garbage import SETTLED_S, GarbageRepository
from storage.tables import BlobRow, ImportBlobRow, ModelImportRow, ModelPieceRow, ModelRow, ModelVersionRow

#: Seconds for which a push may take before it refers to what it sent.
HELD_S = 24 * 3600.0
#: Seconds for which what was deleted can still be pulled by whoever had begun, or has a link.
GRACE_S = SETTLED_S


class BlobsGone(Exception):
    """Content that was held for a push is gone: it took longer than HELD_S. Send it again."""


class BlobRepository:
    """The tables of blobs and of what refers to them."""

    def __init__(self, session: Session, garbage: GarbageRepository) -> None:
        self._session = session
        self._garbage = garbage

    def hold(self, pieces: Collection[Piece], *, for_s: float = HELD_S) -> dict[str, BlobRow]:
        """sha256 -> row, made where there was none; all stay for `for_s` seconds.

        Those without `stored_at` must be sent; several may send the same content at once. Only for who has the bytes,
        or may read what refers to them.
        """
        until = _in(for_s)
        sizes = {piece.sha256: piece.bytes for piece in pieces}
        # In one order, so that two that hold the same don't wait for each other.
        values = [
            {"id": uuid4(), "sha256": sha256, "bytes": sizes[sha256], "keep_until": until} for sha256 in sorted(sizes)
        ]
        if values:
            held = insert(BlobRow).values(values)
            longer = func.greatest(BlobRow.keep_until, held.excluded.keep_until)
            self._session.execute(held.on_conflict_do_update(index_elements=["sha256"], set_={"keep_until": longer}))
        return self._by_sha256(sizes)

    def mark_stored(self, blob_id: UUID) -> bool:
        """Its object is whole. False when the row is gone."""
        stored = update(BlobRow).where(BlobRow.id == blob_id).values(stored_at=func.clock_timestamp())
        return self._session.scalar(stored.returning(BlobRow.id)) is not None

    def doubt(self, keys: Collection[str]) -> None:
        """An object of these was damaged or missing: the next who has the content sends it again."""
        ids = [UUID(key.removeprefix("blobs/")) for key in keys if key.startswith("blobs/")]
        locked = select(BlobRow.id).where(BlobRow.id.in_(ids)).order_by(BlobRow.sha256).with_for_update()
        found = self._session.scalars(locked).all()
        self._session.execute(update(BlobRow).where(BlobRow.id.in_(found)).values(stored_at=None))

    def readable(self, reach: Reach, sha256s: Collection[str]) -> set[str]:
        """Those that are in a version in the reach, or that its owners sent for imports of theirs."""
        stored = select(BlobRow.sha256).where(BlobRow.sha256.in_(sha256s), BlobRow.stored_at.is_not(None))
        versions = stored.join(ModelPieceRow, ModelPieceRow.blob_id == BlobRow.id)
        versions = versions.join(ModelVersionRow, ModelVersionRow.id == ModelPieceRow.version_id)
        versions = versions.join(ModelRow, ModelRow.id == ModelVersionRow.model_id)
        imports = stored.join(ImportBlobRow, ImportBlobRow.blob_id == BlobRow.id)
        imports = imports.join(ModelImportRow, ModelImportRow.id == ImportBlobRow.import_id)
        return {
            *self._session.scalars(versions.where(within(reach, ModelRow.owner_id, ModelRow.visibility))),
            *self._session.scalars(imports.where(within(reach, ModelImportRow.owner_id))),
        }

    def keep_for_import(self, import_id: UUID, sha256s: Collection[str]) -> None:
        """Refers to stored content that the caller holds. Raises BlobsGone."""
        rows = self._stored(sha256s)
        values = [{"import_id": import_id, "blob_id": row.id} for row in rows.values()]
        if values:
            self._session.execute(insert(ImportBlobRow).values(values).on_conflict_do_nothing())

    def of_import(self, import_id: UUID) -> dict[str, StoredPiece]:
        """sha256 -> what the import refers to."""
        query = select(BlobRow).join(ImportBlobRow, ImportBlobRow.blob_id == BlobRow.id)
        rows = self._session.scalars(query.where(ImportBlobRow.import_id == import_id))
        return {row.sha256: stored_piece(row) for row in rows}

    def forget_import(self, import_id: UUID) -> None:
        """The import refers to nothing any more."""
        self._session.execute(delete(ImportBlobRow).where(ImportBlobRow.import_id == import_id))

    def attach(self, version_id: UUID, files: Mapping[str, Sequence[str]]) -> None:
        """Makes each file (path -> sha256 of its pieces) refer to stored content that the caller holds.

        Raises BlobsGone.
        """
        rows = self._stored({sha256 for pieces in files.values() for sha256 in pieces})
        values: list[dict[str, Any]] = [
            {"version_id": version_id, "path": path, "position": position, "blob_id": rows[sha256].id}
            for path, pieces in files.items()
            for position, sha256 in enumerate(pieces)
        ]
        if values:
            self._session.execute(insert(ModelPieceRow), values)

    def files_of(self, version: ModelVersionRow) -> tuple[StoredFile, ...]:
        """The version's files and where their bytes are, in the order of its manifest."""
        files = Manifest.model_validate(version.manifest).files
        if version.prefix is not None:
            return stored_below(version.prefix, files)
        query = select(ModelPieceRow).where(ModelPieceRow.version_id == version.id)
        pieces: dict[str, list[StoredPiece]] = {}
        for row in self._session.scalars(query.order_by(ModelPieceRow.path, ModelPieceRow.position)):
            pieces.setdefault(row.path, []).append(stored_piece(row.blob))
        return tuple(
            StoredFile(path=file.path, bytes=file.bytes, sha256=file.sha256, pieces=tuple(pieces[file.path]))
            for file in files
        )

    def release(self, version_id: UUID) -> None:
        """The version refers to nothing any more. What nobody else refers to goes after GRACE_S."""
        mine = select(ModelPieceRow.blob_id).where(ModelPieceRow.version_id == version_id)
        locked = select(BlobRow.id).where(BlobRow.id.in_(mine)).order_by(BlobRow.sha256).with_for_update()
        ids = self._session.scalars(locked).all()
        longer = func.greatest(BlobRow.keep_until, _in(GRACE_S))
        self._session.execute(update(BlobRow).where(BlobRow.id.in_(ids)).values(keep_until=longer))
        self._session.execute(delete(ModelPieceRow).where(ModelPieceRow.version_id == version_id))

    def write_down(self, limit: int = 500) -> int:
        """Makes garbage of blobs that nobody refers to and whose time is over; returns how many."""
        due = select(BlobRow.id).where(BlobRow.keep_until < func.clock_timestamp(), _unreferenced())
        due = due.order_by(BlobRow.keep_until).limit(limit).with_for_update(skip_locked=True)
        gone = delete(BlobRow).where(BlobRow.id.in_(due.scalar_subquery())).returning(BlobRow.id, BlobRow.bytes)
        rows = self._session.execute(gone).all()
        for blob_id, size in rows:
            self._garbage.add(f"blobs/{blob_id}", bytes_total=size)
        return len(rows)

    def bytes_waiting(self) -> int:
        """Bytes that nobody refers to and that go within GRACE_S."""
        waiting = select(func.coalesce(func.sum(BlobRow.bytes), 0))
        waiting = waiting.where(BlobRow.keep_until <= _in(GRACE_S), BlobRow.stored_at.is_not(None), _unreferenced())
        return int(self._session.scalar(waiting) or 0)

    def bytes_freed(self, version_ids: Collection[UUID]) -> int:
        """Bytes that only these versions refer to."""
        mine = select(ModelPieceRow.blob_id).where(ModelPieceRow.version_id.in_(version_ids))
        others = select(ModelPieceRow.blob_id).where(ModelPieceRow.version_id.not_in(version_ids))
        imports = select(ImportBlobRow.blob_id)
        alone = select(func.coalesce(func.sum(BlobRow.bytes), 0)).where(
            BlobRow.id.in_(mine), BlobRow.id.not_in(others.where(ModelPieceRow.blob_id.in_(mine)))
        )
        alone = alone.where(BlobRow.id.not_in(imports.where(ImportBlobRow.blob_id.in_(mine))))
        return int(self._session.scalar(alone) or 0)

    def _stored(self, sha256s: Collection[str]) -> dict[str, BlobRow]:
        """The rows, kept until the transaction has ended. Raises BlobsGone."""
        query = select(BlobRow).where(BlobRow.sha256.in_(sha256s), BlobRow.stored_at.is_not(None))
        query = query.order_by(BlobRow.sha256).with_for_update(read=True, key_share=True)
        rows = {row.sha256: row for row in self._session.scalars(query.execution_options(populate_existing=True))}
        if len(rows) < len(set(sha256s)):
            raise BlobsGone("Content that was sent is gone: the push took too long. Send it again.")
        return rows

    def _by_sha256(self, sha256s: Collection[str]) -> dict[str, BlobRow]:
        query = select(BlobRow).where(BlobRow.sha256.in_(sha256s)).execution_options(populate_existing=True)
        return {row.sha256: row for row in self._session.scalars(query)}


def stored_piece(row: BlobRow) -> StoredPiece:
    return StoredPiece(key=row.key, bytes=row.bytes, sha256=row.sha256)


def _in(seconds: float) -> ColumnElement[Any]:
    return func.clock_timestamp() + text("make_interval(secs => :seconds)").bindparams(seconds=seconds)


def _unreferenced() -> ColumnElement[bool]:
    versions = exists().where(ModelPieceRow.blob_id == BlobRow.id)
    return ~versions & ~exists().where(ImportBlobRow.blob_id == BlobRow.id)
