"""How a language model is asked for each row of a data set, and how it answers: what kinds that apply models share."""

from __future__ import annotations

from string import Formatter
from typing import Any

from pydantic import Field

from jobspecs.kinds.base import Section


class Answering(Section):
    """The most probable token each time, unless a temperature is given; then a row's answer depends on `seed`."""

    max_new_tokens: int = Field(default=256, ge=1, le=8192)
    temperature: float = Field(default=0.0, ge=0, le=2, description="0 takes the most probable token each time")
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = Field(default=20, ge=0, lt=2**32)
    stop: list[str] = Field(default=[], max_length=16, description="an answer ends before the first of these")
    json_schema: dict[str, Any] | None = Field(
        default=None, description="answers are written so that they keep to this JSON schema"
    )


def columns_in(template: str | None) -> list[str]:
    """The columns that a text with {column} places names, each once. Raises ValueError for a broken one."""
    try:
        named = [column for _, column, _, _ in Formatter().parse(template or "") if column is not None]
    except ValueError as error:
        raise ValueError(f"it can't be read ({error}); write {{{{ and }}}} for literal braces") from error
    if any(not column for column in named):
        raise ValueError("a pair of braces holds no column; write {column}, and {{ }} for literal braces")
    return list(dict.fromkeys(named))
