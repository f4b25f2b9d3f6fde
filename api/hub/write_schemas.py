"""The shapes of what the hub's clients send and are told when they push."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

#: Files of one question; clients ask 256 at a time.
_FILES_MAX = 1000


class RepositoryWanted(BaseModel):
    """Clients say more, such as who shall see it: what is made is private until its owner shares it."""

    name: str
    organization: str | None = None
    type: str | None = None


class RepositoryMade(BaseModel):
    url: str
    name: str
    id: str


class PathToSend(BaseModel):
    path: str = Field(max_length=1000)
    size: int = Field(ge=0)


class PathsToSend(BaseModel):
    files: list[PathToSend] = Field(max_length=_FILES_MAX)


class FileWay(BaseModel):
    path: str
    uploadMode: Literal["regular", "lfs"]
    shouldIgnore: bool


class Ways(BaseModel):
    files: list[FileWay]


class ObjectWanted(BaseModel):
    oid: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Batch(BaseModel):
    operation: str = "upload"
    transfers: list[str] = ["basic"]
    objects: list[ObjectWanted] = Field(max_length=_FILES_MAX)


class BatchAnswer(BaseModel):
    transfer: Literal["basic", "multipart"]
    objects: list[dict[str, Any]]


class Completion(BaseModel):
    """The parts were sent; what is stored decides, not what is said of them here."""

    oid: str


class Committed(BaseModel):
    success: bool = True
    commitOid: str
    commitUrl: str
    hookOutput: str = ""


class XetToken(BaseModel):
    casUrl: str
    accessToken: str
    exp: int


class YamlChecked(BaseModel):
    errors: list[Any] = []
    warnings: list[Any] = []
