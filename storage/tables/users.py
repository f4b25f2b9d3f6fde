"""Users and their bearer tokens. Of a token only the sha256 is kept."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Mapped, mapped_column, relationship

from jobspecs.limits import RequestLimits
from storage.tables.base import Base, CreatedAt, UuidKey
from storage.tables.owners import OwnerRow


class UserRow(OwnerRow):
    """An owner who has tokens; the name is the owner's."""

    __tablename__ = "users"
    __mapper_args__: dict[str, Any] = {"polymorphic_identity": "user"}  # noqa: RUF012 (as SQLAlchemy declares it)

    id: Mapped[UUID] = mapped_column(ForeignKey("owners.id"), primary_key=True)
    created_at: Mapped[CreatedAt]
    #: `jobspecs.limits.RequestLimits`, where the platform's are not to hold; 0: none at all.
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    concurrent_requests: Mapped[int | None]

    @property
    def limits(self) -> RequestLimits:
        return RequestLimits(
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            concurrent_requests=self.concurrent_requests,
        )


class TokenRow(Base):
    __tablename__ = "tokens"

    id: Mapped[UuidKey]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    #: sha256 of the token in hex. A random token of 256 bits needs no slow hash.
    sha256: Mapped[str] = mapped_column(unique=True)
    #: The first characters, to tell tokens apart in a list.
    hint: Mapped[str]
    #: `read`, `write`, `admin`.
    scopes: Mapped[list[str]] = mapped_column(ARRAY(TEXT))
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    user: Mapped[UserRow] = relationship(lazy="joined", innerjoin=True)
