"""What the platform answers about data sets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from eigenwerk.resources.resource import Resource


class DatasetVersion(Resource):
    """One immutable version of a data set."""

    #: `owner/name@version`.
    reference: str
    name: str
    version: int
    file_name: str
    bytes: int
    sha256: str
    rows: int
    columns: list[str]
    #: How the file is read, in a line. None: nothing had to be recognised.
    recognised: str | None = None
    #: What was taken for granted when it was pushed and may not be meant.
    notices: list[str] = Field(default_factory=list)
    #: Where the rows came from, such as `hub:org/name@COMMIT`, and their licence, as whoever pushed them said.
    origin: str | None = None
    license: str | None = None
    owner: str = ""
    #: Who may read it beside its owner: `private` (nobody) or `everyone`.
    visibility: str = "private"
    created_at: datetime


class ColumnFacts(Resource):
    """What is known of a column. `values`: rows of each value, where the values are few and short."""

    kind: str
    empty: int = 0
    distinct: int = 0
    distinct_capped: bool = False
    values: dict[str, int] = Field(default_factory=dict)


class DatasetProfile(Resource):
    columns: dict[str, ColumnFacts]


class DatasetFile(Resource):
    """One of several files that are a version together, and how it is read."""

    name: str
    rows: int
    recognised: str | None = None


class DatasetVersionDetail(DatasetVersion):
    """A version with what is known of its columns, and of its files where it has several."""

    profile: DatasetProfile
    files: list[DatasetFile] = Field(default_factory=list)


class Preview(Resource):
    """The first rows of a data set."""

    columns: list[str]
    rows: list[dict[str, Any]]
