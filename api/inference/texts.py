"""Texts in requests."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

TEXT_CHARS_MAX = 100_000

#: An empty one is refused with its place, as OpenAI does.
Text = Annotated[str, Field(min_length=1, max_length=TEXT_CHARS_MAX)]
#: Of an answer; absent when all were read to their end.
TruncatedTexts = Annotated[int | None, Field(description="texts that were cut because the model reads fewer tokens")]
