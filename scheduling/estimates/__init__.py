"""How much memory and time work will take, from what is known before it starts. Pure functions; no file is read here.

made = estimate(spec, {"model": KnownModel(shape_of(config), weights_bytes)}, facts_of_report(report))
"""

from __future__ import annotations

from scheduling.estimates.data import DataFacts, facts_of_bound, facts_of_report
from scheduling.estimates.estimating import (
    GGUF_EXPANSION,
    TYPICAL_WEIGHTS_BYTES,
    KnownModel,
    admission_bytes,
    estimate,
)
from scheduling.estimates.serving import serving_memory_bytes
from scheduling.estimates.shapes import ModelShape, shape_of

__all__ = [
    "GGUF_EXPANSION",
    "TYPICAL_WEIGHTS_BYTES",
    "DataFacts",
    "KnownModel",
    "ModelShape",
    "admission_bytes",
    "estimate",
    "facts_of_bound",
    "facts_of_report",
    "serving_memory_bytes",
    "shape_of",
]
