"""Owners, and how queries keep within a reach."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, and_, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from jobspecs.rights import Reach
from storage.tables import OwnerRow


def within(reach: Reach, owner_id: InstrumentedAttribute[UUID]) -> ColumnElement[bool]:
    """The condition that a row's owner is in the reach."""
    if reach.everybody:
        return true()
    # One owner, the usual case, as an equality: an index on (owner_id, …) then gives the rows in order.
    return owner_id == next(iter(reach.owners)) if len(reach.owners) == 1 else owner_id.in_(reach.owners)


def named(reach: Reach, owner_id: InstrumentedAttribute[UUID], owner: str | None) -> ColumnElement[bool]:
    """The condition that a row belongs to the owner of that name, in the reach; None: to the reach's home."""
    if owner is None:
        return and_(within(reach, owner_id), owner_id == reach.home)
    return and_(
        within(reach, owner_id), owner_id == select(OwnerRow.id).where(OwnerRow.name == owner).scalar_subquery()
    )


class OwnerRepository:
    """The owners table."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, reach: Reach, name: str) -> OwnerRow | None:
        """The owner of that name in the reach."""
        query = select(OwnerRow).where(OwnerRow.name == name, within(reach, OwnerRow.id))
        return self._session.scalars(query).one_or_none()

    def is_taken(self, name: str) -> bool:
        """Whether an owner of any kind has the name."""
        return self._session.scalar(select(OwnerRow.id).where(OwnerRow.name == name)) is not None
