"""The work of kinds that apply models to rows and train none."""

from __future__ import annotations

from collections.abc import Mapping

from jobspecs.estimate import MemoryParts
from jobspecs.kinds.base import BASE_ROLE
from jobspecs.kinds.merge import Merge
from jobspecs.kinds.predict import Predict
from jobspecs.kinds.score_pairs import TEACHER_ROLE, ScorePairs
from scheduling.estimates import causal, encoders
from scheduling.estimates.data import DataFacts
from scheduling.estimates.encoders import BYTES_FP32, EncoderBatch, forward_operations
from scheduling.estimates.serving import answering_bytes
from scheduling.estimates.shapes import ModelShape
from scheduling.estimates.work import Work

#: Texts that a model reads at once when it scores.
_JUDGED_AT_ONCE = 64
#: Rows of an encoder that `predict` reads together, and what a number of a vector takes there in numbers of fp32: as
#: Python has it in a row, and as it is written.
_WINDOW_ROWS, _VECTORS = 512, 14

#: Copies of the largest tensor that a merge holds at most, in fp32, and operations for a weight of each model.
_COPIES, _OPERATIONS = 3, 8


def scored_pairs(spec: ScorePairs, shapes: Mapping[str, ModelShape], data: DataFacts) -> Work:
    shape = shapes[TEACHER_ROLE]
    parts = _read_parts(shape, data, on_gpu=spec.resources.gpus > 0)
    tokens = data.rows * data.mean
    return Work(shape.parameters, 0, parts, int(tokens), forward_operations(shape, tokens, data.mean))


def predicted(spec: Predict, shapes: Mapping[str, ModelShape], data: DataFacts) -> Work:
    shape = shapes[BASE_ROLE]
    if not shape.causal:
        texts = min(_WINDOW_ROWS, data.rows) * data.sequences_per_row
        tokens = data.rows * data.sequences_per_row * data.mean
        return Work(
            shape.parameters,
            0,
            MemoryParts(weights=BYTES_FP32 * shape.parameters),
            int(tokens),
            forward_operations(shape, tokens, data.mean),
            judging_bytes=encoders.judging_bytes(shape, data, texts, compared=False, vectors=_VECTORS),
        )
    written = spec.generation.max_new_tokens
    parts = MemoryParts(
        weights=BYTES_FP32 * shape.parameters, activations=answering_bytes(shape, spec.max_length + written)
    )
    tokens = data.rows * (data.mean + written)
    return Work(shape.parameters, 0, parts, int(tokens), forward_operations(shape, tokens, data.mean))


def merged(spec: Merge, shapes: Mapping[str, ModelShape], data: DataFacts) -> Work:
    """Weights are read as they are needed and written at once; what is held at its peak is copies of one tensor."""
    shape = max(shapes.values(), key=lambda one: one.parameters)
    largest = max(shape.vocabulary * shape.hidden, shape.hidden * shape.intermediate)
    parts = MemoryParts(weights=0, activations=_COPIES * BYTES_FP32 * largest)
    return Work(shape.parameters, 0, parts, 0, float(_OPERATIONS * len(shapes) * shape.parameters))


def _read_parts(shape: ModelShape, data: DataFacts, *, on_gpu: bool) -> MemoryParts:
    """Of an encoder that reads texts, or a language model that is asked for one token, in batches of some length."""
    bytes_each = causal.BYTES_BF16 if on_gpu else BYTES_FP32
    at_once = min(_JUDGED_AT_ONCE, data.rows)
    batch = EncoderBatch(data.tokens(at_once), data.longest_of(at_once), at_once)
    return MemoryParts(
        weights=bytes_each * shape.parameters,
        activations=encoders.activation_bytes(shape, batch, trained=False, bytes_each=bytes_each),
        lm_head=BYTES_FP32 * int(batch.sequences) * shape.vocabulary if shape.causal else 0,
    )
