"""What the platform answers about users and tokens."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from eigenwerk.resources.resource import Resource


class User(Resource):
    id: str
    name: str
    #: Of the token that asks; empty for others.
    scopes: list[str] = Field(default_factory=list)
    created_at: datetime | None = None


class UserLimits(Resource):
    """How much a user may ask: `requests_per_minute`, `tokens_per_minute`, `concurrent_requests`; 0: no limit."""

    name: str
    #: What an administrator has set for this user; None: the platform's.
    own: dict[str, int | None]
    effective: dict[str, int | None]


class Leaving(Resource):
    """A user that goes once its jobs and deployments have been stopped."""

    name: str
    jobs: int
    deployments: int


class Token(Resource):
    """A token by its first characters; `token` itself is there once, when it is made."""

    id: str
    hint: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    token: str | None = Field(default=None, repr=False)


class HubToken(Resource):
    """A user's own token of the model hub, by its last characters."""

    hint: str
    set_at: datetime
    #: False: the platform's key is another one by now; set it anew.
    readable: bool
