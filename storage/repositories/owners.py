"""Owners, and how queries keep within a reach."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, and_, or_, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from jobspecs.rights import Reach
from storage.tables import OwnerRow


def within(
    reach: Reach, owner_id: InstrumentedAttribute[UUID], visibility: InstrumentedAttribute[str] | None = None
) -> ColumnElement[bool]:
    """The condition that a row is in the reach; without `visibility`, what others share is not in it."""
    if reach.everybody:
        return true()
    # One owner, the usual case, as an equality: an index on (owner_id, …) then gives the rows in order.
    own = owner_id == next(iter(reach.owners)) if len(reach.owners) == 1 else owner_id.in_(reach.owners)
    return or_(own, visibility == "everyone") if reach.shared and visibility is not None else own


def named(
    reach: Reach,
    owner_id: InstrumentedAttribute[UUID],
    owner: str | None,
    visibility: InstrumentedAttribute[str] | None = None,
) -> ColumnElement[bool]:
    """The condition that a row belongs to the owner of that name, in the reach; None: to the reach's home."""
    whose = reach.home if owner is None else select(OwnerRow.id).where(OwnerRow.name == owner).scalar_subquery()
    return and_(within(reach, owner_id, visibility), owner_id == whose)


def same_owner(one: InstrumentedAttribute[UUID], other: InstrumentedAttribute[UUID]) -> ColumnElement[bool]:
    """The condition that two rows belong together, whoever asks."""
    return one == other


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
