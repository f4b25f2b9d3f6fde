"""/v1/users."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Path, Query, Response
from fastapi.responses import JSONResponse

from api.authentication import TheUser, guarded_router, requires
from api.parts import ThePlatform
from api.users import deleting, service
from api.users.schemas import Leaving, Me, NewToken, TokenList, TokenRequest, User, UserLimits, UserList, UserRequest
from jobspecs.limits import RequestLimits
from jobspecs.references import NAME_PATTERN
from jobspecs.rights import SCOPES

router = guarded_router("users")

Name = Annotated[str, Path(pattern=f"^{NAME_PATTERN}$", description="a user, or `me`")]


@router.get("/v1/users/me")
@requires("users.read")
def get_me(user: TheUser) -> Me:
    """Who you are, and what your token allows."""
    return Me(id=user.user_id, name=user.name, scopes=[scope for scope in SCOPES if user.holds(scope)])


@router.get("/v1/users")
@requires("users.list")
def list_users(platform: ThePlatform) -> UserList:
    """Everybody, by name."""
    return service.list_users(platform)


@router.post("/v1/users", status_code=201)
@requires("users.create")
def create_user(platform: ThePlatform, request: UserRequest) -> User:
    """Makes a user, who can do nothing before a token is made."""
    return service.create_user(platform, request.name)


@router.delete("/v1/users/{name}", status_code=202, responses={202: {"model": Leaving}, 204: {}})
@requires("users.delete")
def delete_user(
    platform: ThePlatform,
    user: TheUser,
    name: Name,
    give_to: Annotated[str | None, Query(pattern=f"^{NAME_PATTERN}$", description="who gets the things")] = None,
    delete_things: Annotated[bool, Query(description="delete the things instead")] = False,
    cancel_jobs: Annotated[bool, Query(description="cancel what has not ended before it passes on")] = False,
) -> Response:
    """Deletes a user: 204 when it is gone, 202 while jobs and deployments are being stopped; ask again then.

    Tokens end at once. What the user has passes to another one, or is deleted; 409 says why it can't.
    """
    wish = deleting.Wish(give_to=give_to, delete_things=delete_things, cancel_jobs=cancel_jobs)
    left = deleting.delete_user(platform, user, name, wish)
    return Response(status_code=204) if left is None else JSONResponse(left.model_dump(mode="json"), 202)


@router.get("/v1/users/{name}/limits")
@requires("limits.read")
def get_limits(platform: ThePlatform, user: TheUser, name: Name) -> UserLimits:
    """How much a user may ask of deployed models."""
    return service.get_limits(platform, user, name)


@router.put("/v1/users/{name}/limits")
@requires("limits.write")
def set_limits(platform: ThePlatform, user: TheUser, name: Name, request: RequestLimits) -> UserLimits:
    """Sets all three; what is left out is as the platform has it, and 0 is no limit."""
    return service.set_limits(platform, user, name, request)


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
