"""Owners: whom data sets, models, jobs and deployments belong to. A user is one kind of owner."""

from __future__ import annotations

from typing import Any, get_args

from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from jobspecs.rights import Visibility
from storage.tables.base import Base, UuidKey

#: What a `jobspecs.rights.Visibility` can be, as SQL has it.
VISIBILITIES = ", ".join(f"'{name}'" for name in get_args(Visibility))


class OwnerRow(Base):
    """What every kind of owner has. Names are unique across kinds: `owner/name` means one thing."""

    __tablename__ = "owners"
    __table_args__ = (CheckConstraint("kind IN ('user')", name="kind_known"),)
    __mapper_args__: dict[str, Any] = {"polymorphic_on": "kind"}  # noqa: RUF012 (as SQLAlchemy declares it)

    id: Mapped[UuidKey]
    kind: Mapped[str]
    #: The owner part of references: `name/model@1`.
    name: Mapped[str] = mapped_column(unique=True)
