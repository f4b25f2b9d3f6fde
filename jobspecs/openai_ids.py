"""Ids as OpenAI's clients expect them: a prefix that says what it is, and the 32 digits of ours."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

#: A version of a data set, a job, a batch, and a file that is being sent in parts.
Prefix = Literal["file", "ftjob", "batch", "upload", "part"]
_SEPARATORS: dict[Prefix, str] = {"file": "-", "ftjob": "-", "batch": "_", "upload": "_", "part": "_"}


def openai_id(prefix: Prefix, key: UUID) -> str:
    return f"{prefix}{_SEPARATORS[prefix]}{key.hex}"


def key_of(prefix: Prefix, text: str) -> UUID | None:
    """What `openai_id` was made of; None for any other text."""
    begin = f"{prefix}{_SEPARATORS[prefix]}"
    digits = text.removeprefix(begin)
    if not text.startswith(begin) or len(digits) != 32 or not digits.isalnum() or not digits.isascii():
        return None
    try:
        return UUID(hex=digits)
    except ValueError:
        return None
