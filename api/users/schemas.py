"""The shapes of users and tokens. A token itself is shown once, when it is made."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from jobspecs.kinds.base import Duration
from jobspecs.limits import RequestLimits
from jobspecs.references import Name
from jobspecs.rights import SCOPES, Scope


class UserRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name


class User(BaseModel):
    object: Literal["user"] = "user"
    id: UUID
    name: str
    created_at: datetime


class UserList(BaseModel):
    object: Literal["list"] = "list"
    data: list[User]


class Me(BaseModel):
    """Who you are to the platform, with this token."""

    object: Literal["user"] = "user"
    id: UUID
    name: str
    scopes: list[Scope]


class UserLimits(BaseModel):
    """How much a user may ask of deployed models; 0: no limit."""

    object: Literal["limits"] = "limits"
    name: str
    #: What an administrator has set for this user; null: the platform's.
    own: RequestLimits
    #: What holds.
    effective: RequestLimits


class Leaving(BaseModel):
    """A user whose tokens have ended and whose things are being stopped, to be deleted then."""

    object: Literal["leaving"] = "leaving"
    name: str
    #: Jobs that have not ended, and deployments that a worker still serves.
    jobs: int
    deployments: int


class TokenRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(SCOPES))]
    expires_in: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(days=3660))] | None = None


class Token(BaseModel):
    object: Literal["token"] = "token"
    id: UUID
    #: Its first characters, to tell tokens apart.
    hint: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewToken(Token):
    token: str


class TokenList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Token]
