"""How much memory serving takes: what a deployment is reckoned with, and what its engine keeps to.

An engine computes in fp32 on the CPU. Beside the weights a language model holds the keys and values of all answers that
grow at once: of each layer two vectors of the key width per token. How many tokens there may be follows from the memory
that the deployment was given; `workers.engines.embedded.generation` admits no more.

Measured: an engine with SmolLM2-135M that read and answered 16 prompts of 2,040 tokens at once, which is all that it
ever admits, had 2,524 MiB resident at its peak; `language_model_bytes` says 2,785. Weights 513, keys and values 1,440.
"""

from __future__ import annotations

from jobspecs.engines import WeightsFormat, format_of
from jobspecs.manifest import Manifest
from jobspecs.tasks import TEXT_GENERATION
from scheduling.estimates.encoders import BYTES_FP32
from scheduling.estimates.shapes import ModelShape, typical_shape

#: What an engine needs beside the weights: its libraries, most of all.
SERVING_RUNTIME_BYTES = int(0.8 * 2**30)
#: Of llama.cpp: its compute buffers, and what is left for keys and values at the least.
GGUF_RUNTIME_BYTES = 400 << 20
GGUF_CACHE_MIN_BYTES = 512 << 20
#: Answers that grow at the same time in one engine.
ANSWERS_MAX = 16
#: Tokens that growing answers may need in all (prompts, and answers at their longest), however much memory there is;
#: also the longest context.
CACHED_TOKENS_MAX = 32_768
#: Tokens of prompts that are read between two steps of those who write; the activations of so many are there at most.
PROMPT_TOKENS_PER_STEP = 512


def depends_on_shape(manifest: Manifest) -> bool:
    """Whether the model's shape says how much memory serving takes; else the bytes that are stored do."""
    return manifest.task == TEXT_GENERATION.name and format_of(manifest) is not WeightsFormat.gguf


def process_bytes(manifest: Manifest, base_bytes: int, shape: ModelShape | None, *, on_gpu: bool) -> int:
    """Main memory of one process that serves the model, in bytes.

    `base_bytes`: weights of the model that an adapter changes, 0 for any other. `shape`: of the base, or the model's
    own; where it is not known but wanted (`depends_on_shape`), a usual one of that size is taken.
    """
    if format_of(manifest) is WeightsFormat.gguf:
        return gguf_bytes(manifest.bytes_total)
    stored = manifest.bytes_total + base_bytes
    if not depends_on_shape(manifest):
        return encoder_bytes(stored)
    # An adapter is merged into the weights that it changes, and is there beside them meanwhile.
    adapter_bytes = 2 * manifest.bytes_total if manifest.base is not None else 0
    return language_model_bytes(shape or typical_shape(stored), on_gpu=on_gpu) + adapter_bytes


def adapter_bytes(stored_bytes: int) -> int:
    """Main memory of an adapter beside others over one base, in bytes: its weights may be stored in half of fp32."""
    return 2 * stored_bytes


def encoder_bytes(weights_bytes: int) -> int:
    """Main memory of one process that serves an encoder, in bytes: the weights, once more while they are loaded."""
    return 2 * weights_bytes + SERVING_RUNTIME_BYTES


def language_model_bytes(shape: ModelShape, *, on_gpu: bool = False) -> int:
    """Main memory of one process that serves a language model, in bytes, with as many answers as it ever admits.

    On a GPU the weights only pass through main memory, in two bytes each, and keys and values are never there.
    """
    if on_gpu:
        return 2 * shape.parameters + SERVING_RUNTIME_BYTES
    answering = _without_cache(shape) + cached_tokens_wanted(shape) * cache_bytes_per_token(shape)
    return max(encoder_bytes(BYTES_FP32 * shape.parameters), answering)


def gguf_bytes(file_bytes: int) -> int:
    """Main memory of one llama.cpp process, in bytes: the file as it is, and room for keys and values.

    How many tokens fit into that room follows from the file's metadata (`workers.engines.llamacpp`).
    """
    return file_bytes + max(GGUF_CACHE_MIN_BYTES, file_bytes // 4) + GGUF_RUNTIME_BYTES


def answering_tokens(longest: int) -> int:
    """Tokens whose keys and values a job holds that has ANSWERS_MAX questions answered at once, each, with its answer,
    at most `longest` tokens long.
    """
    return min(CACHED_TOKENS_MAX, ANSWERS_MAX * longest)


def cached_tokens_wanted(shape: ModelShape) -> int:
    """Tokens whose keys and values are held at once when as many answers grow as may, each as long as it may be."""
    return min(CACHED_TOKENS_MAX, ANSWERS_MAX * (shape.positions or CACHED_TOKENS_MAX))


def cached_tokens(shape: ModelShape, memory_bytes: int) -> int:
    """Tokens whose keys and values fit into so much main memory; below 1 when not even the weights do."""
    room = memory_bytes - _without_cache(shape)
    return min(CACHED_TOKENS_MAX, room // cache_bytes_per_token(shape))


def answering_bytes(shape: ModelShape, longest: int) -> int:
    """Main memory of a job beside the weights while it has questions answered, in bytes; `longest`: with the answer."""
    return _beside_weights(shape) + answering_tokens(longest) * cache_bytes_per_token(shape)


def cache_bytes_per_token(shape: ModelShape) -> int:
    return 2 * shape.layers * shape.key_width * BYTES_FP32


def _without_cache(shape: ModelShape) -> int:
    return BYTES_FP32 * shape.parameters + _beside_weights(shape) + SERVING_RUNTIME_BYTES


def _beside_weights(shape: ModelShape) -> int:
    activations = PROMPT_TOKENS_PER_STEP * (2 * shape.intermediate + 4 * shape.hidden + 2 * shape.query_width)
    # A head that shares the embeddings' weights is laid out anew for its products, beside the table that is looked up.
    head = shape.vocabulary * shape.hidden if shape.tied else 0
    return BYTES_FP32 * (head + activations)
