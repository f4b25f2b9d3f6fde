"""What a sweep searches: fields of a spec, each with values or a range, and points among them."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jobspecs.sweeps.document import Range

#: Field -> value.
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Dimension:
    """A field and what it may be."""

    field: str
    domain: Sequence[Any] | Range

    @property
    def size(self) -> int | None:
        """How many values it has; None: too many to be counted."""
        if not isinstance(self.domain, Range):
            return len(self.domain)
        step = self.domain.step or (1 if self.domain.whole and self.domain.scale == "linear" else None)
        return None if step is None else math.floor((self.domain.high - self.domain.low) / step + 1e-9) + 1

    def value(self, index: int) -> Any:
        """The value at a place from 0 to `size`."""
        if not isinstance(self.domain, Range):
            return self.domain[index]
        low, step = self.domain.low, self.domain.step or 1
        # Without the last digits, which adding makes of 0.1 and the like.
        return low + index * step if self.domain.whole else float(f"{low + index * step:.12g}")

    def at(self, share: float) -> Any:
        """The value at a share from 0 to 1 of it: what a draw by chance means."""
        if self.size is not None:
            return self.value(min(int(share * self.size), self.size - 1))
        low, high = float(self.domain.low), float(self.domain.high)  # type: ignore[union-attr]  # counted otherwise
        if self.domain.scale == "log":  # type: ignore[union-attr]
            found = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            found = low + share * (high - low)
        found = min(max(float(f"{found:.6g}"), low), high)
        return round(found) if self.domain.whole else found  # type: ignore[union-attr]

    @cached_property
    def ends(self) -> tuple[Any, ...]:
        """The values that tell whether all are allowed: each, or the ends of a range."""
        return tuple(self.domain) if not isinstance(self.domain, Range) else (self.domain.low, self.domain.high)

    @property
    def largest(self) -> Any:
        """The value that takes most, as far as numbers tell."""
        numbers = [value for value in self.ends if isinstance(value, int | float) and not isinstance(value, bool)]
        return max(numbers) if len(numbers) == len(self.ends) else self.ends[0]


def points(dimensions: Sequence[Dimension]) -> int | None:
    """How many combinations there are; None: too many to be counted."""
    total = 1
    for dimension in dimensions:
        if dimension.size is None:
            return None
        total *= dimension.size
    return total


def point(dimensions: Sequence[Dimension], index: int) -> dict[str, Any]:
    """The combination at a place from 0; the last field changes fastest."""
    found: dict[str, Any] = {}
    for dimension in reversed(dimensions):
        size = dimension.size or 1
        index, place = divmod(index, size)
        found[dimension.field] = dimension.value(place)
    return {dimension.field: found[dimension.field] for dimension in dimensions}


class NoSection(Exception):
    """A field lies below something that is no section. The message is for people."""

    def __init__(self, field: str, above: str) -> None:
        super().__init__(f"{above} is no section with fields.")
        self.field = field


def with_values(document: Mapping[str, Any], values: Values) -> dict[str, Any]:
    """The document with these values at dotted fields; sections that are not there are made.

    Raises NoSection.
    """
    made = copy.deepcopy(dict(document))
    for field, value in values.items():
        *sections, name = field.split(".")
        place = made
        for section in sections:
            below = place.get(section)
            if below is None:
                below = place[section] = {}
            if not isinstance(below, dict):
                raise NoSection(field, section)
            place = below
        place[name] = copy.deepcopy(value)
    return made


def told_values(values: Values) -> str:
    """In a few words, for people."""
    return ", ".join(f"{field}={_short(value)}" for field, value in values.items())


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
