"""Texts that are longer than the model reads: refused, or cut with a sign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workers.engines.embedded.dialects.requests import Refused


@dataclass(frozen=True)
class Lengths:
    """How many tokens each text of a request has, prompts and special tokens included, and how many the model reads."""

    tokens: Sequence[int]
    max_tokens: int

    @property
    def seen(self) -> int:
        """Tokens that went through the model."""
        return sum(min(tokens, self.max_tokens) for tokens in self.tokens)

    @property
    def cut(self) -> int:
        """Texts that the model has not read to their end."""
        return sum(tokens > self.max_tokens for tokens in self.tokens)

    def check(self, field: str, *, truncate: bool, kind: str = "Validation") -> None:
        """Raises Refused(422, kind) naming the first text of `field` that would have to be cut, unless it may be."""
        too_long = [place for place, tokens in enumerate(self.tokens) if tokens > self.max_tokens]
        if truncate or not too_long:
            return
        place = f"{field}[{too_long[0]}]" if len(self.tokens) > 1 else field
        others = f" So are {len(too_long) - 1} others." if len(too_long) > 1 else ""
        raise Refused(
            422,
            kind,
            f"{place}: the text has {self.tokens[too_long[0]]:,} tokens; this model reads {self.max_tokens:,}.{others} "
            "Send shorter texts, or truncate: true to have them cut at their end.",
            place,
        )

    @property
    def headers(self) -> dict[str, str]:
        """`x-tokens`, and `x-truncated` when texts were cut."""
        return {"x-tokens": str(self.seen)} | ({"x-truncated": str(self.cut)} if self.cut else {})
