"""Where the rows of a data set came from, and under which licence: as whoever pushed it said."""

from __future__ import annotations

import re
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

#: Bytes at the beginning of a card in which its licence is looked for.
CARD_BYTES_READ = 64 * 1024
_LICENSE = re.compile(r"license:[ \t]*[\"']?([A-Za-z0-9][A-Za-z0-9 ._+-]{0,199}?)[\"']?[ \t]*")


def license_of_card(card: bytes) -> str | None:
    """What the front matter of a README.md names as the licence, in one line; None where it doesn't."""
    lines = card[:CARD_BYTES_READ].decode("utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    for line in lines[1:]:
        if line.strip() == "---":
            break
        if match := _LICENSE.fullmatch(line):
            return match[1]
    return None
