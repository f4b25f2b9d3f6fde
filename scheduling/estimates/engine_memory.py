"""What one process of each engine takes of main memory and of its GPU: weights, keys and values, and what is beside.

Keys and values are reckoned for so many answers (`sequences`) of so many tokens (`context_tokens`) at once. Where a
deployment declares neither, its engine's own usage counts. The embedded engine's figures are measured
(`scheduling.estimates.serving`), llama.cpp's cache is exact, in fp16; vLLM and TGI have never been run on a GPU here:
their 2 GiB beside weights and cache are what their documents have for activations, graphs and libraries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jobspecs.engines import EMBEDDED, LLAMACPP, WeightsFormat, format_of
from jobspecs.manifest import Manifest
from jobspecs.problems import Problem
from scheduling.estimates.gguf import GgufFacts
from scheduling.estimates.serving import (
    ANSWERS_MAX,
    CACHED_TOKENS_MAX,
    GGUF_RUNTIME_BYTES,
    SERVING_RUNTIME_BYTES,
    cache_bytes_per_token,
    depends_on_shape,
    encoder_bytes,
    gguf_bytes,
    process_bytes,
)
from scheduling.estimates.shapes import ModelShape, typical_shape

#: Beside weights and cache, on a GPU as in main memory.
FOREIGN_RUNTIME_BYTES = 2 << 30
#: Of the embedded engine on a GPU: the driver's context, and activations of one step.
_GPU_RUNTIME_BYTES = 1 << 30
#: Of a GPU's memory vLLM and TGI are told to take no more (TGI by itself would take all).
GPU_SHARE = 0.9
#: Answers that grow at once where nothing is declared.
FOREIGN_SEQUENCES, LLAMACPP_SEQUENCES = 8, 8
#: Tokens of a conversation that is worth having.
TOKENS_MIN = 256
_HALF = 2  # bytes of a value in bf16 and fp16
_GIB = 2**30


@dataclass(frozen=True)
class Taken:
    """Of one kind of memory, in bytes."""

    weights_bytes: int
    kv_cache_bytes: int
    overhead_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_cache_bytes + self.overhead_bytes

    def __str__(self) -> str:
        parts = (self.weights_bytes, self.kv_cache_bytes, self.overhead_bytes)
        weights, cache, beside = (f"{part / _GIB:.2f} GiB" for part in parts)
        return f"weights {weights}, keys and values {cache}, {beside} beside"


@dataclass(frozen=True)
class ServingMemory:
    """Of one process. `gpu` is None on the CPU."""

    main: Taken
    gpu: Taken | None = None
    #: What keys and values are reckoned for; None for models that keep none.
    context_tokens: int | None = None
    sequences: int | None = None
    #: Of a GPU's memory that the engine takes at the most.
    gpu_share: float = 1.0

    @property
    def memory_bytes(self) -> int:
        return self.main.total_bytes

    @property
    def gpu_bytes(self) -> int:
        """Memory that the GPU must have."""
        return int(self.gpu.total_bytes / self.gpu_share) if self.gpu is not None else 0

    def beside(self, adapters_bytes: int) -> ServingMemory:
        """The same with adapters of so many bytes beside the weights."""
        main = replace(self.main, weights_bytes=self.main.weights_bytes + adapters_bytes)
        gpu = replace(self.gpu, weights_bytes=self.gpu.weights_bytes + adapters_bytes) if self.gpu is not None else None
        return replace(self, main=main, gpu=gpu)

    def within(self, memory_bytes: int) -> ServingMemory:
        """The same with so much main memory: more or less of it is for keys and values, where they are there."""
        taken, tokens = self.main, (self.context_tokens or 0) * (self.sequences or 0)
        if self.gpu is not None or not taken.kv_cache_bytes or not tokens:
            return replace(self, main=replace(taken, overhead_bytes=memory_bytes - taken.weights_bytes))
        cache = max(0, memory_bytes - taken.weights_bytes - taken.overhead_bytes)
        main = Taken(taken.weights_bytes, cache, memory_bytes - taken.weights_bytes - cache)
        fitting = cache * tokens // taken.kv_cache_bytes
        context = min(self.context_tokens or 0, fitting)
        return ServingMemory(main, None, context, max(1, min(self.sequences or 1, fitting // max(1, context))))

    def __str__(self) -> str:
        where = self.main if self.gpu is None else self.gpu
        known = self.sequences and self.context_tokens
        answers = f" for {self.sequences} answers of {self.context_tokens:,} tokens" if known else ""
        return f"{where}{answers}"


@dataclass(frozen=True)
class ServedModel:
    """What is known of a model that shall be served."""

    manifest: Manifest
    #: Weights of the model that an adapter changes.
    base_bytes: int = 0
    #: Of a language model in safetensors, or of its base.
    shape: ModelShape | None = None
    #: Of a model in GGUF.
    gguf: GgufFacts | None = None

    @property
    def context_tokens(self) -> int | None:
        """Tokens that the model reads at most, where that is known."""
        if self.gguf is not None:
            return self.gguf.context_tokens or None
        return (self.shape.positions or None) if self.shape is not None else None


def engine_memory(
    engine: str,
    model: ServedModel,
    *,
    on_gpu: bool,
    context_tokens: int | None = None,
    sequences: int | None = None,
) -> ServingMemory:
    """Of one process of the engine of that name. The declared ones are within what model and engine can do."""
    if format_of(model.manifest) is WeightsFormat.gguf:
        return _llamacpp(model, context_tokens, sequences, on_gpu)
    stored = model.manifest.bytes_total + model.base_bytes
    if not depends_on_shape(model.manifest):
        main = Taken(stored, 0, encoder_bytes(stored) - stored)
        return ServingMemory(main, Taken(stored, 0, _GPU_RUNTIME_BYTES) if on_gpu else None)
    shape = model.shape or typical_shape(stored)
    if engine == EMBEDDED.name:
        return _embedded(model, shape, context_tokens, sequences, on_gpu)
    context = context_tokens or shape.positions or CACHED_TOKENS_MAX
    answers = sequences or max(1, min(FOREIGN_SEQUENCES, CACHED_TOKENS_MAX // context))
    cache = context * answers * cache_bytes_per_token(shape) // 2
    weights = _HALF * shape.parameters + (model.manifest.bytes_total if model.manifest.base is not None else 0)
    where = Taken(weights, cache, FOREIGN_RUNTIME_BYTES)
    # On their way to a GPU weights pass through main memory.
    main = Taken(weights, 0, FOREIGN_RUNTIME_BYTES) if on_gpu else where
    return ServingMemory(main, where if on_gpu else None, context, answers, GPU_SHARE)


def why_not_declared(
    engine: str, model: ServedModel, context_tokens: int | None, sequences: int | None
) -> Problem | None:
    """What is wrong with a context or a number of answers that model or engine can't have."""
    declared = {"context_tokens": context_tokens, "sequences": sequences}
    keeps = format_of(model.manifest) is WeightsFormat.gguf or depends_on_shape(model.manifest)
    for name, value in declared.items():
        if value is not None and not keeps:
            return Problem(field=name, message="only a language model keeps what it has read.", remedy="Leave it out.")
    longest = model.context_tokens
    if context_tokens is not None and longest is not None and context_tokens > longest:
        message = f"this model reads {longest:,} tokens at most."
        return Problem(field="context_tokens", message=message, remedy="Ask for no more.")
    if engine != EMBEDDED.name:
        return None
    if (sequences or 0) > ANSWERS_MAX:
        message = f"the embedded engine gives {ANSWERS_MAX} answers at once; more wait."
        return Problem(field="sequences", message=message, remedy="Ask for fewer, or more replicas.")
    context = context_tokens or (sequences and longest) or 0
    if context * (sequences or 1) > CACHED_TOKENS_MAX:
        message = f"a replica of the embedded engine holds {CACHED_TOKENS_MAX:,} tokens of all its answers together."
        remedy = "Ask for fewer answers at once, a shorter context, or more replicas."
        return Problem(field="context_tokens", message=message, remedy=remedy)
    return None


def _embedded(
    model: ServedModel, shape: ModelShape, context_tokens: int | None, sequences: int | None, on_gpu: bool
) -> ServingMemory:
    context = min(context_tokens or shape.positions or CACHED_TOKENS_MAX, CACHED_TOKENS_MAX)
    answers = sequences or ANSWERS_MAX
    tokens = min(CACHED_TOKENS_MAX, context * answers)
    # Those of the whole model when nothing is declared, and of so many tokens less when less is.
    usual = min(CACHED_TOKENS_MAX, ANSWERS_MAX * (shape.positions or CACHED_TOKENS_MAX))
    whole = process_bytes(model.manifest, model.base_bytes, shape, on_gpu=on_gpu)
    if on_gpu:
        weights = _HALF * shape.parameters
        gpu = Taken(weights, tokens * cache_bytes_per_token(shape) // 2, _GPU_RUNTIME_BYTES)
        return ServingMemory(Taken(weights, 0, whole - weights), gpu, context, answers)
    cache, weights = tokens * cache_bytes_per_token(shape), 4 * shape.parameters
    loading = encoder_bytes(weights) - weights
    overhead = max(whole - usual * cache_bytes_per_token(shape) - weights, loading - cache, SERVING_RUNTIME_BYTES)
    return ServingMemory(Taken(weights, cache, overhead), None, context, answers)


def _llamacpp(model: ServedModel, context_tokens: int | None, sequences: int | None, on_gpu: bool) -> ServingMemory:
    """Where nothing is declared the cache has a quarter of the file's size, at least 0.5 GiB, if it needs as much."""
    file_bytes, facts = model.manifest.bytes_total, model.gguf
    answers = sequences or LLAMACPP_SEQUENCES
    cache = gguf_bytes(file_bytes) - file_bytes - GGUF_RUNTIME_BYTES
    context = context_tokens
    if facts is not None and facts.cache_bytes_per_token:
        trained = facts.context_tokens or CACHED_TOKENS_MAX
        if context_tokens is not None or sequences is not None:
            context = context_tokens or trained
            cache = context * answers * facts.cache_bytes_per_token
        else:
            cache = min(cache, trained * answers * facts.cache_bytes_per_token)
            context = min(trained, cache // facts.cache_bytes_per_token)
    taken = Taken(file_bytes, cache, GGUF_RUNTIME_BYTES)
    # The file is read through main memory, and stays there as long as nobody else wants it.
    main = Taken(file_bytes, 0, GGUF_RUNTIME_BYTES) if on_gpu else taken
    return ServingMemory(main, taken if on_gpu else None, context, answers)


def least_bytes(engine: str, memory: ServingMemory) -> int:
    """Main memory below which the process can answer nobody, in bytes."""
    if memory.gpu is not None or not memory.sequences or not memory.context_tokens:
        return memory.main.weights_bytes
    tokens = memory.context_tokens * memory.sequences
    cache = memory.main.kv_cache_bytes * min(1.0, TOKENS_MIN / tokens)
    if engine in (EMBEDDED.name, LLAMACPP.name):
        return int(memory.main.weights_bytes + cache + min(memory.main.overhead_bytes, GGUF_RUNTIME_BYTES))
    return memory.main.weights_bytes
