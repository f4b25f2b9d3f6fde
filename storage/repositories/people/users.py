"""Users and bearer tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from jobspecs.limits import RequestLimits
from jobspecs.rights import Reach
from storage.repositories.owners import named
from storage.tables import Base, OwnerRow, TokenRow, UserRow

#: Characters of a token that are kept readable, to tell tokens apart.
_HINT_CHARS = 8
#: A user is a row here and one in owners; the ORM's INSERT would write one of them.
_USERS = Base.metadata.tables[UserRow.__tablename__]


def hash_token(token: str) -> str:
    """sha256 in hex. Tokens carry 256 random bits, so a slow hash would protect nothing more."""
    return hashlib.sha256(token.encode()).hexdigest()


def _valid() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """The conditions that a token is neither revoked nor expired."""
    now = func.clock_timestamp()
    return TokenRow.revoked_at.is_(None), or_(TokenRow.expires_at.is_(None), TokenRow.expires_at > now)


class UserRepository:
    """The users and tokens tables."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def ensure(self, name: str) -> UserRow:
        """The user of that name, created when there is none."""
        owner = (
            insert(OwnerRow).values(id=uuid4(), kind="user", name=name).on_conflict_do_nothing(index_elements=["name"])
        )
        # Of several that meet here, one makes the owner; the others wait for its end.
        made = self._session.scalars(owner.returning(OwnerRow.id)).one_or_none()
        if made is not None:
            self._session.execute(insert(_USERS).values(id=made))
        return self._session.scalars(select(UserRow).where(UserRow.name == name)).one()

    def oldest_made_at(self) -> datetime | None:
        """When the oldest of today's users was made; None without users."""
        return self._session.scalar(select(func.min(UserRow.created_at)))

    def find(self, reach: Reach, name: str | None) -> UserRow | None:
        """The user of that name in the reach; None: the one at home."""
        query = select(UserRow).where(named(reach, UserRow.id, name))
        return self._session.scalars(query).one_or_none()

    def lock_for_deletion(self) -> None:
        """One deletion of a user at a time: of two administrators who delete each other, one stays."""
        self._session.execute(text("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE"))

    def others_administrate(self, user_id: UUID) -> bool:
        """Whether anybody but this user has a valid token of an administrator."""
        others = select(TokenRow.id).where(TokenRow.user_id != user_id, TokenRow.scopes.contains(["admin"]), *_valid())
        return self._session.scalars(others.limit(1)).one_or_none() is not None

    def revoke_tokens(self, user_id: UUID) -> None:
        """All of the user's, at once."""
        tokens = update(TokenRow).where(TokenRow.user_id == user_id, TokenRow.revoked_at.is_(None))
        self._session.execute(tokens.values(revoked_at=func.clock_timestamp()))

    def delete(self, user_id: UUID) -> bool:
        """Deletes the user with its tokens. False when it owns something: the transaction must be given up then."""
        self._session.execute(delete(TokenRow).where(TokenRow.user_id == user_id))
        self._session.execute(delete(_USERS).where(_USERS.c.id == user_id))
        try:
            self._session.execute(delete(OwnerRow).where(OwnerRow.id == user_id))
        except IntegrityError:
            return False
        return True

    def list(self) -> Sequence[UserRow]:
        """Everybody, by name."""
        return self._session.scalars(select(UserRow).order_by(UserRow.name)).all()

    def limit(self, user_id: UUID, limits: RequestLimits) -> None:
        """How much the user may ask from now on."""
        self._session.execute(update(_USERS).where(_USERS.c.id == user_id).values(**limits.model_dump()))

    def add_token(
        self, user_id: UUID, token: str, *, scopes: Sequence[str], expires_at: datetime | None = None
    ) -> TokenRow:
        """Stores the token's hash. The same token again renews its scopes and expiry; a revoked one stays revoked."""
        values = {"scopes": list(scopes), "expires_at": expires_at}
        statement = (
            insert(TokenRow)
            .values(user_id=user_id, sha256=hash_token(token), hint=token[:_HINT_CHARS], **values)
            .on_conflict_do_update(index_elements=["sha256"], set_=values)
            .returning(TokenRow.id)
        )
        token_id = self._session.scalars(statement).one()
        return self._session.get_one(TokenRow, token_id)

    def authenticate(self, token: str) -> TokenRow | None:
        """The token's row, with its user, while it is neither revoked nor expired."""
        return self.valid_token(hash_token(token))

    def valid_token(self, sha256: str) -> TokenRow | None:
        """As `authenticate`, by the token's sum (`hash_token`)."""
        query = select(TokenRow).where(TokenRow.sha256 == sha256, *_valid())
        return self._session.scalars(query).one_or_none()

    def valid_of(self, sha256s: Collection[str]) -> set[str]:
        """Those of the sums that are of valid tokens."""
        return {*self._session.scalars(select(TokenRow.sha256).where(TokenRow.sha256.in_(sha256s), *_valid()))}

    def tokens_of(self, user_id: UUID) -> Sequence[TokenRow]:
        return self._session.scalars(
            select(TokenRow).where(TokenRow.user_id == user_id).order_by(TokenRow.created_at)
        ).all()

    def revoke_token(self, user_id: UUID, token_id: UUID) -> bool:
        """Whether the user had such a token that was not yet revoked."""
        revoked = self._session.scalars(
            update(TokenRow)
            .where(TokenRow.id == token_id, TokenRow.user_id == user_id, TokenRow.revoked_at.is_(None))
            .values(revoked_at=func.clock_timestamp())
            .returning(TokenRow.id)
        )
        return revoked.one_or_none() is not None
