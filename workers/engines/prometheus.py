"""Figures out of Prometheus' text format."""

from __future__ import annotations

import math
import re

_SERIES = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{.*\})?\s+(\S+)")


def totals(text: str) -> dict[str, float]:
    """Name of a metric -> the sum of its series, whatever their labels; what is no finite number is left out."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        match = None if line.startswith("#") else _SERIES.match(line)
        if match is None:
            continue
        try:
            value = float(match[2])
        except ValueError:
            continue
        if math.isfinite(value):
            found[match[1]] = found.get(match[1], 0.0) + value
    return found
