"""The work of `quantize`."""

from __future__ import annotations

from collections.abc import Mapping

from jobspecs.estimate import MemoryParts
from jobspecs.kinds.base import BASE_ROLE
from jobspecs.kinds.quantize import Quantize
from scheduling.estimates import encoders
from scheduling.estimates.data import DataFacts
from scheduling.estimates.encoders import BYTES_FP32, EncoderBatch, forward_operations
from scheduling.estimates.shapes import ModelShape
from scheduling.estimates.work import IMPORTED_BYTES, Work


def quantized(spec: Quantize, shapes: Mapping[str, ModelShape], data: DataFacts) -> Work:
    """The model and a copy that is changed, then what was written; calibration texts pass through, others twice."""
    shape = shapes[BASE_ROLE]
    length = max(spec.calibration.length if spec.facts.calibrated else 0, spec.validation.length)
    parts = MemoryParts(
        weights=2 * BYTES_FP32 * shape.parameters,
        # Logits of both models, and their probabilities a few rows at a time.
        lm_head=2 * BYTES_FP32 * spec.validation.length * shape.vocabulary,
        activations=encoders.activation_bytes(
            shape, EncoderBatch(length, length, 1), trained=False, bytes_each=BYTES_FP32
        ),
    )
    mean = min(data.mean, length)
    calibrated = spec.calibration.samples * mean if spec.facts.calibrated else 0.0
    tokens = 2 * calibrated + 2 * spec.validation.rows * mean
    return Work(
        shape.parameters,
        0,
        parts,
        int(tokens),
        forward_operations(shape, tokens, mean),
        imported_bytes=IMPORTED_BYTES,
    )
