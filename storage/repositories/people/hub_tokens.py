"""Users' own tokens of a model hub."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobspecs.rights import Reach
from storage.repositories.owners import within
from storage.tables import HubTokenRow


class HubTokenRepository:
    """The hub_tokens table; one of each owner."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def put(self, owner_id: UUID, sealed: bytes, hint: str) -> HubTokenRow:
        """In the place of the one before."""
        values = {"sealed": sealed, "hint": hint, "set_at": func.clock_timestamp()}
        statement = insert(HubTokenRow).values(owner_id=owner_id, **values)
        self._session.execute(statement.on_conflict_do_update(index_elements=["owner_id"], set_=values))
        return self._session.get_one(HubTokenRow, owner_id, populate_existing=True)

    def get(self, owner_id: UUID) -> HubTokenRow | None:
        return self._session.get(HubTokenRow, owner_id)

    def delete(self, owner_id: UUID) -> bool:
        """Whether there was one."""
        deleted = (
            delete(HubTokenRow).where(within(Reach.of(owner_id), HubTokenRow.owner_id)).returning(HubTokenRow.owner_id)
        )
        return self._session.scalars(deleted).one_or_none() is not None
