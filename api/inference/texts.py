"""Texts in requests."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

TEXT_CHARS_MAX = 100_000

Text = Annotated[str, Field(max_length=TEXT_CHARS_MAX)]
#: Of an answer; absent when all were read to their end.
TruncatedTexts = Annotated[int | None, Field(description="texts that were cut because the model reads fewer tokens")]
