"""/v1/users/me/hub-token: the caller's own token of a model hub. Nothing shows it again."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import Response
from pydantic import BaseModel, ConfigDict, SecretStr

from api.authentication import TheUser, guarded_router, requires
from api.documented import ErrorAnswer
from api.errors import ApiError, not_found
from api.parts import Parts, ThePlatform
from jobspecs.rights import Principal
from storage.hub_tokens import hub_token
from storage.secret_box import KEY_VARIABLE
from storage.tables import HubTokenRow

router = guarded_router("users")

_HINT_CHARS = 4
#: Short ones would be told by the hint.
_CHARS_MIN, _CHARS_MAX = 16, 500


class HubTokenRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    token: SecretStr


class HubToken(BaseModel):
    """A token by its last characters."""

    object: Literal["hub_token"] = "hub_token"
    hint: str
    set_at: datetime
    #: False: it was sealed with another key of the platform's than today's. Set it anew.
    readable: bool


@router.get("/v1/users/me/hub-token", responses={404: {"model": ErrorAnswer, "description": "none is set"}})
@requires("hub_tokens.read")
def get_hub_token(platform: ThePlatform, user: TheUser) -> HubToken:
    """Whether you have set a token of the model hub, and when."""
    with platform.database.unit_of_work() as work:
        row = work.hub_tokens.get(user.user_id)
        if row is None:
            raise not_found("hub token of yours. Set one: eigenwerk tokens hub set")
        opened = hub_token(work, platform.secret_box, user.user_id)
        return _shown(row, readable=opened is not None)


@router.put("/v1/users/me/hub-token")
@requires("hub_tokens.write")
def set_hub_token(platform: ThePlatform, user: TheUser, request: HubTokenRequest) -> HubToken:
    """Keeps a token of the model hub, encrypted, for what your jobs and deployments name as `hub:…`."""
    return _put(platform, user, request.token.get_secret_value().strip())


@router.delete("/v1/users/me/hub-token", status_code=204)
@requires("hub_tokens.write")
def delete_hub_token(platform: ThePlatform, user: TheUser) -> Response:
    """Forgets the token."""
    with platform.database.unit_of_work() as work:
        if not work.hub_tokens.delete(user.user_id):
            raise not_found("hub token of yours")
    return Response(status_code=204)


def _put(parts: Parts, user: Principal, token: str) -> HubToken:
    if not (_CHARS_MIN <= len(token) <= _CHARS_MAX and token.isascii() and token.isprintable() and " " not in token):
        raise ApiError(
            422, f"token: this is no token: it takes {_CHARS_MIN} to {_CHARS_MAX} characters.", param="token"
        )
    if parts.secret_box is None:
        message = f"This platform has no key to encrypt tokens with. Its administrator sets one: {KEY_VARIABLE}"
        raise ApiError(409, message, code="no_secrets_key")
    with parts.database.unit_of_work() as work:
        sealed = parts.secret_box.seal(user.user_id, token)
        return _shown(work.hub_tokens.put(user.user_id, sealed, token[-_HINT_CHARS:]), readable=True)


def _shown(row: HubTokenRow, *, readable: bool) -> HubToken:
    return HubToken(hint=row.hint, set_at=row.set_at, readable=readable)
