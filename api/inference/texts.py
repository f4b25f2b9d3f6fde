"""Texts in requests."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

TEXT_CHARS_MAX = 100_000

Text = Annotated[str, Field(max_length=TEXT_CHARS_MAX)]
