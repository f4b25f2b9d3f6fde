"""Users and their tokens."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from uuid import UUID

from api.errors import ApiError, not_found
from api.parts import Parts
from api.users.schemas import NewToken, Token, TokenList, TokenRequest, User, UserLimits, UserList
from jobspecs.limits import RequestLimits
from jobspecs.problems import InvalidInput, Problem
from jobspecs.rights import Principal, Reach
from storage.database import UnitOfWork
from storage.tables import TokenRow, UserRow

#: `/v1/users/me` is the caller.
_RESERVED = "me"
_TOKEN_BYTES = 32


def create_user(parts: Parts, name: str) -> User:
    if name == _RESERVED:
        problem = Problem(field="name", message="this name means the caller.", remedy="Choose another one.")
        raise InvalidInput([problem])
    with parts.database.unit_of_work() as work:
        if work.owners.is_taken(name):
            raise ApiError(409, f"There is a user {name} already.", code="user_exists", param="name")
        row = work.users.ensure(name)
        return User(id=row.id, name=row.name, created_at=row.created_at)


def list_users(parts: Parts) -> UserList:
    with parts.database.unit_of_work() as work:
        return UserList(data=[User(id=row.id, name=row.name, created_at=row.created_at) for row in work.users.list()])


def get_limits(parts: Parts, user: Principal, name: str) -> UserLimits:
    with parts.database.unit_of_work() as work:
        row = find_user(work, user.reach("limits.read"), name)
        return _limits(parts, row.name, row.limits)


def set_limits(parts: Parts, user: Principal, name: str, limits: RequestLimits) -> UserLimits:
    """Takes effect with the next request."""
    with parts.database.unit_of_work() as work:
        row = find_user(work, user.reach("limits.write"), name)
        work.users.limit(row.id, limits)
        return _limits(parts, row.name, limits)


def _limits(parts: Parts, name: str, own: RequestLimits) -> UserLimits:
    return UserLimits(name=name, own=own, effective=own.over(parts.settings.request_limits))


def create_token(parts: Parts, user: Principal, name: str, request: TokenRequest) -> NewToken:
    """Makes a token of 256 random bits. Nobody gives away more, or for longer, than the token that asks has."""
    beyond = [scope for scope in request.scopes if not user.holds(scope)]
    if beyond:
        raise ApiError(403, f"Your token may not hand on the scope {beyond[0]}.", param="scopes")
    token = f"ew_{secrets.token_urlsafe(_TOKEN_BYTES)}"
    ends = [user.expires_at, datetime.now(UTC) + request.expires_in if request.expires_in else None]
    expires_at = min((end for end in ends if end is not None), default=None)
    with parts.database.unit_of_work() as work:
        owner = find_user(work, user.reach("tokens.write"), name)
        row = work.users.add_token(owner.id, token, scopes=sorted(set(request.scopes)), expires_at=expires_at)
        return NewToken(**dict(_token(row)), token=token)


def list_tokens(parts: Parts, user: Principal, name: str) -> TokenList:
    with parts.database.unit_of_work() as work:
        owner = find_user(work, user.reach("tokens.read"), name)
        return TokenList(data=[_token(row) for row in work.users.tokens_of(owner.id)])


def revoke_token(parts: Parts, user: Principal, name: str, token_id: UUID) -> None:
    """Takes effect with the next request that uses it."""
    with parts.database.unit_of_work() as work:
        owner = find_user(work, user.reach("tokens.write"), name)
        if not work.users.revoke_token(owner.id, token_id):
            raise not_found(f"valid token {token_id}")


def find_user(work: UnitOfWork, reach: Reach, name: str) -> UserRow:
    """The user of that name; `me` is the caller. Raises ApiError 404 when it is out of reach."""
    row = work.users.find(reach, None if name == _RESERVED else name)
    if row is None:
        raise not_found(f"user {name}")
    return row


def _token(row: TokenRow) -> Token:
    return Token(
        id=row.id,
        hint=row.hint,
        scopes=row.scopes,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
