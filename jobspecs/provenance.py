"""Where the rows of a data set came from, and under which licence: as whoever pushed it said."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has characters that can't be printed on one line. Leave them out.")
    return text


class Provenance(BaseModel):
    """Kept with a version and shown; nothing is decided by it."""

    model_config = ConfigDict(frozen=True)

    #: Such as `hub:org/name@COMMIT`.
    origin: Annotated[str, AfterValidator(_one_line)] | None = Field(default=None, min_length=1, max_length=500)
    #: As the owner names it: `apache-2.0`.
    license: Annotated[str, AfterValidator(_one_line)] | None = Field(default=None, min_length=1, max_length=200)


UNKNOWN = Provenance()
