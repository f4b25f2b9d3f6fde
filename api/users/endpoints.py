"""/v1/users."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Path, Response

from api.authentication import TheUser, guarded_router, requires
from api.parts import ThePlatform
from api.users import service
from api.users.schemas import Me, NewToken, TokenList, TokenRequest, User, UserRequest
from jobspecs.references import NAME_PATTERN
from jobspecs.rights import SCOPES

router = guarded_router("users")

Name = Annotated[str, Path(pattern=f"^{NAME_PATTERN}$", description="a user, or `me`")]


@router.get("/v1/users/me")
@requires("users.read")
def get_me(user: TheUser) -> Me:
    """Who you are, and what your token allows."""
    return Me(id=user.user_id, name=user.name, scopes=[scope for scope in SCOPES if user.holds(scope)])


@router.post("/v1/users", status_code=201)
@requires("users.create")
def create_user(platform: ThePlatform, request: UserRequest) -> User:
    """Makes a user, who can do nothing before a token is made."""
    return service.create_user(platform, request.name)


@router.post("/v1/users/{name}/tokens", status_code=201)
@requires("tokens.write")
def create_token(platform: ThePlatform, user: TheUser, name: Name, request: TokenRequest) -> NewToken:
    """Makes a token. The answer shows it, and nothing ever does again."""
    return service.create_token(platform, user, name, request)


@router.get("/v1/users/{name}/tokens")
@requires("tokens.read")
def list_tokens(platform: ThePlatform, user: TheUser, name: Name) -> TokenList:
    """Tokens, by their first characters."""
    return service.list_tokens(platform, user, name)


@router.delete("/v1/users/{name}/tokens/{token_id}", status_code=204)
@requires("tokens.write")
def revoke_token(platform: ThePlatform, user: TheUser, name: Name, token_id: UUID) -> Response:
    """Revokes a token at once."""
    service.revoke_token(platform, user, name, token_id)
    return Response(status_code=204)
