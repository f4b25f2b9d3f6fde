"""Files that are being sent in parts."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, delete, func, select, text
from sqlalchemy.orm import Session

from jobspecs.purposes import Purpose
from jobspecs.rights import Reach
from storage.repositories.owners import within
from storage.repositories.registry.garbage import GarbageRepository
from storage.tables import UploadPartRow, UploadRow

#: Seconds for which parts may come, as at OpenAI's; and for which an upload can be looked at afterwards.
LIFE_S = 3600.0
_KEPT_S = 24 * 3600.0
#: Seconds after the last part may come, within which an upload that is being completed has read them all.
_COMPLETING_S = 3600.0


class UploadRepository:
    """The tables uploads and upload_parts."""

    def __init__(self, session: Session, garbage: GarbageRepository) -> None:
        self._session = session
        self._garbage = garbage

    def begin(self, owner_id: UUID, *, file_name: str, purpose: Purpose, bytes_total: int) -> UploadRow:
        """Its parts are deleted by themselves once nobody needs them any more. Forgets the owner's old ones."""
        old = UploadRow.expires_at < func.clock_timestamp() - text("make_interval(secs => :s)").bindparams(s=_KEPT_S)
        self._session.execute(delete(UploadRow).where(within(Reach.of(owner_id), UploadRow.owner_id), old))
        row = UploadRow(id=uuid4(), owner_id=owner_id, file_name=file_name, purpose=purpose, bytes=bytes_total)
        row.expires_at = self._session.scalars(
            select(func.clock_timestamp() + text("make_interval(secs => :s)").bindparams(s=LIFE_S))
        ).one()
        self._session.add(row)
        self._session.flush()
        self._session.refresh(row)
        self._garbage.add(folder_of(row.id), bytes_total=bytes_total, after_s=LIFE_S + _COMPLETING_S)
        return row

    def pending(self, owner_id: UUID) -> int:
        """How many of the owner's may still get parts."""
        mine = within(Reach.of(owner_id), UploadRow.owner_id)
        query = select(func.count()).where(mine, UploadRow.state == "pending", ~self._over())
        return self._session.scalar(query) or 0

    def find(self, reach: Reach, upload_id: UUID, *, lock: bool = False) -> UploadRow | None:
        query = select(UploadRow).where(UploadRow.id == upload_id, within(reach, UploadRow.owner_id))
        query = query.with_for_update(of=UploadRow) if lock else query
        return self._session.scalars(query.execution_options(populate_existing=True)).one_or_none()

    def is_over(self, row: UploadRow) -> bool:
        """Whether its time has passed."""
        return bool(self._session.scalar(select(self._over()).where(UploadRow.id == row.id)))

    def add_part(self, row: UploadRow, part_id: UUID, *, bytes_total: int, sha256: str) -> UploadPartRow:
        """The caller has stored it."""
        part = UploadPartRow(id=part_id, upload_id=row.id, bytes=bytes_total, sha256=sha256)
        self._session.add(part)
        self._session.flush()
        self._session.refresh(part)
        return part

    def parts(self, row: UploadRow) -> Sequence[UploadPartRow]:
        query = select(UploadPartRow).where(UploadPartRow.upload_id == row.id)
        return self._session.scalars(query.order_by(UploadPartRow.created_at)).all()

    def end(self, row: UploadRow, state: str, version_id: UUID | None = None) -> None:
        """Its parts go."""
        row.state, row.version_id = state, version_id
        self._garbage.add(folder_of(row.id), bytes_total=row.bytes)
        self._session.flush()

    def _over(self) -> ColumnElement[bool]:
        return UploadRow.expires_at < func.clock_timestamp()


def folder_of(upload_id: UUID) -> str:
    """Below which the objects of its parts lie."""
    return f"uploads/{upload_id}"
