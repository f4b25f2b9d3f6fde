"""What engines take of memory: weights, keys and values for what is declared, and what is beside."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobspecs.manifest import Manifest, ManifestFile
from scheduling.estimates.engine_memory import GPU_SHARE, ServedModel, engine_memory, least_bytes
from scheduling.estimates.gguf import GgufFacts
from scheduling.estimates.serving import cache_bytes_per_token, cached_tokens, process_bytes
from scheduling.estimates.shapes import ModelShape
from scheduling.serving_admission import Needs, why_no_host_serves

GIB = 2**30
SHAPE = ModelShape(30, 576, 1536, 9, 3, 64, 49152, positions=8192, causal=True, gated=True)
PER_TOKEN = cache_bytes_per_token(SHAPE)


def manifest(path: str, size: int, **more: object) -> Manifest:
    file = ManifestFile(path=path, bytes=size, sha256="0" * 64)
    return Manifest.model_validate({"artifact": "model", "files": (file,), **more})


LLM = ServedModel(manifest("model.safetensors", 4 * SHAPE.parameters, task="text-generation"), shape=SHAPE)
GGUF = ServedModel(manifest("model.gguf", GIB), gguf=GgufFacts("llama", 4096, 10_000, is_adapter=False))


def test_the_embedded_engine_takes_what_it_took_and_less_for_a_smaller_context() -> None:
    usual = engine_memory("embedded", LLM, on_gpu=False)
    assert usual.memory_bytes == process_bytes(LLM.manifest, 0, SHAPE, on_gpu=False)
    assert (usual.context_tokens, usual.sequences) == (8192, 16)
    less = engine_memory("embedded", LLM, on_gpu=False, context_tokens=2048, sequences=4)
    assert less.main.kv_cache_bytes == 8192 * PER_TOKEN
    assert less.main.weights_bytes == usual.main.weights_bytes
    assert less.memory_bytes < usual.memory_bytes
    assert cached_tokens(SHAPE, less.memory_bytes) >= 8192, "the engine admits what is declared"


def test_an_adapter_is_there_beside_the_weights_that_it_is_merged_into() -> None:
    base = {"reference": "ada/llm@1", "digest": "1" * 64}
    adapter = ServedModel(manifest("adapter_model.safetensors", 1000, task="text-generation", base=base), 10, SHAPE)
    without = engine_memory("embedded", LLM, on_gpu=False)
    assert engine_memory("embedded", adapter, on_gpu=False).memory_bytes == without.memory_bytes + 2000


def test_llama_cpps_cache_is_its_context_times_its_answers() -> None:
    declared = engine_memory("llamacpp", GGUF, on_gpu=False, context_tokens=2048, sequences=3)
    assert declared.main.weights_bytes == GIB
    assert declared.main.kv_cache_bytes == 2048 * 3 * 10_000
    usual = engine_memory("llamacpp", GGUF, on_gpu=False)
    assert usual.main.kv_cache_bytes == 8 * 4096 * 10_000, "no more than the model can read"
    tight = replace(GGUF, gguf=GgufFacts("llama", 131_072, 100_000, is_adapter=False))
    assert engine_memory("llamacpp", tight, on_gpu=False).main.kv_cache_bytes == GIB // 2
    unknown = engine_memory("llamacpp", replace(GGUF, gguf=None), on_gpu=False)
    assert unknown.main.kv_cache_bytes == GIB // 2
    assert str(unknown).endswith("0.39 GiB beside"), "nobody knows how many tokens that is"


@pytest.mark.parametrize("engine", ["vllm", "tgi"])
def test_on_a_gpu_the_cache_is_there_and_not_in_main_memory(engine: str) -> None:
    memory = engine_memory(engine, LLM, on_gpu=True, context_tokens=4096, sequences=32)
    assert memory.gpu is not None
    assert memory.gpu.kv_cache_bytes == 4096 * 32 * PER_TOKEN // 2, "in 16 bits"
    assert memory.main.kv_cache_bytes == 0
    assert memory.gpu_bytes * GPU_SHARE == pytest.approx(memory.gpu.total_bytes)
    on_the_cpu = engine_memory(engine, LLM, on_gpu=False, context_tokens=4096, sequences=32)
    assert (on_the_cpu.gpu, on_the_cpu.gpu_bytes) == (None, 0)
    assert on_the_cpu.main.kv_cache_bytes == memory.gpu.kv_cache_bytes


def test_memory_that_is_given_goes_to_keys_and_values() -> None:
    usual = engine_memory("embedded", LLM, on_gpu=False)
    half = usual.within(usual.memory_bytes - usual.main.kv_cache_bytes // 2)
    assert half.main.kv_cache_bytes == pytest.approx(usual.main.kv_cache_bytes / 2, rel=0.01)
    assert (half.context_tokens, half.sequences) == (8192, 8)
    assert half.memory_bytes == usual.memory_bytes - usual.main.kv_cache_bytes // 2
    assert usual.main.weights_bytes < least_bytes("embedded", usual) < usual.memory_bytes


def test_a_model_larger_than_memory_is_refused_with_what_it_consists_of() -> None:
    memory = engine_memory("vllm", LLM, on_gpu=True, context_tokens=8192, sequences=256)
    needs = Needs(memory.memory_bytes, 1, memory.gpu_bytes)
    assert why_no_host_serves(needs, [Needs(64 * GIB, 1, 80 * GIB)]) is None
    assert why_no_host_serves(needs, [Needs(64 * GIB, 1, None)]) is None, "a host that does not tell"
    problem = why_no_host_serves(needs, [Needs(64 * GIB, 1, 24 * GIB)], str(memory))
    assert problem is not None
    assert problem.field == "gpus"
    for figure in ("24.00 GiB each", "keys and values 45.00 GiB", "256 answers of 8,192 tokens"):
        assert figure in problem.message
