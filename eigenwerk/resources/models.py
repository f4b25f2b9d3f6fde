"""What the platform answers about models and their versions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from eigenwerk.resources.resource import Resource
from jobspecs.manifest import Manifest


class ModelVersion(Resource):
    """One immutable version of a model."""

    #: `owner/name@version`.
    reference: str
    owner: str
    name: str
    version: int
    digest: str
    bytes: int
    task: str | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    #: Who may read it beside its owner: `private` (nobody) or `everyone`.
    visibility: str = "private"
    description: str | None = None
    tags: list[str] = Field(default_factory=list)
    #: As the owner says, else of the base or of the version's own card.
    license: str | None = None
    #: Lists, and names without a version, pass it over.
    archived: bool = False
    #: `verified` or `unverified`: whether it does in its engine what its source does; None: it was never compared.
    verification_state: str | None = None
    #: Why it is unverified.
    verification_cause: str | None = None
    created_at: datetime


class ModelVersionDetail(ModelVersion):
    """With its manifest: every file with size and sha256."""

    manifest: Manifest


class FileLink(Resource):
    """One file, and a URL with which anybody may fetch it until `expires_at`."""

    path: str
    bytes: int
    sha256: str
    url: str = Field(repr=False)
    expires_at: datetime


class Model(Resource):
    """A model with its versions, newest first, and aliases."""

    owner: str
    name: str
    visibility: str = "private"
    description: str | None = None
    tags: list[str] = Field(default_factory=list)
    #: What the owner says of all versions.
    license: str | None = None
    #: How whoever asks it first deploys it; None: nobody does.
    first_use: dict[str, Any] | None = None
    aliases: dict[str, int] = Field(default_factory=dict)
    versions: list[ModelVersion]
