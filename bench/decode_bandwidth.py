"""How fast one answer grows in llama.cpp, as a share of what the memory's bandwidth allows.

Each token needs every weight once, so no engine writes more tokens a second than the bandwidth divided by the weights'
bytes. The bandwidth is measured in the same run, in turns with the answers: sums over an array larger than the caches,
on as many threads as the engine has. The GGUF is SmolLM2 in F16, which waits for memory; in Q4_1, the file that it is
made of, unpacking takes longer than reading on a core with AVX2 (half the share). The embedded engine in fp32 stands
beside it, against its own twice as large weights.
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from bench.measuring import report
from bench.served_engine import ServedEngine
from tests.weights import smollm2_gguf
from workers.local_models.gguf_model import load_gguf, write_language_model

FLOOR, AIM = 0.6, 0.85
TOKENS = 24
#: Over the array: as long as an answer takes, so that a busy machine interrupts both alike.
PASSES = 40
ROUNDS = 16
_ARRAY_BYTES = 256 << 20
_PROMPT = "Once upon a time"

_log = logging.getLogger("bench.decode_bandwidth")


def bandwidth_bytes_s() -> float:
    """Bytes a second that one thread reads from memory in PASSES over an array."""
    array = np.ones(_ARRAY_BYTES // 8)
    return PASSES * _ARRAY_BYTES / _seconds(lambda: [array.sum() for _ in range(PASSES)])


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def write_f16(source: Path, target: Path) -> Path:
    """The same model with its matrices in F16; returns `target`."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kind, *inner = field.types
            writer.add_key_value(field.name, field.contents(), kind, sub_type=inner[-1] if inner else None)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, values.astype(np.float16 if values.ndim > 1 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def answer_tokens_s(engine: ServedEngine) -> float:
    """Tokens a second of one answer: as llama.cpp times itself, else with the prompt and the way there and back."""
    body = {"prompt": _PROMPT, "max_tokens": TOKENS, "temperature": 0}
    begun = time.perf_counter()
    # Whole answers: pieces of a stream that waited for a busy reader would seem to have come all at once.
    answer = engine.client.post("/v1/completions", json=body).raise_for_status()
    took_s, document = time.perf_counter() - begun, answer.json()
    if "timings" in document:
        return float(document["timings"]["predicted_per_second"])
    return float(document["usage"]["completion_tokens"]) / took_s


def main() -> int:
    """Prints the figure."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        weights, quantized = smollm2_gguf(), root / "gguf"
        quantized.mkdir()
        half = write_f16(weights, quantized / "smollm2-f16.gguf")
        full = root / "fp32"
        converted = load_gguf(weights, "fp32")
        write_language_model(full, converted.model, converted.tokenizer)
        llamacpp, embedded = (
            ServedEngine(engine, "text-generation", folder, root / "logs")
            for engine, folder in (("llamacpp", quantized), ("embedded", full))
        )
        rounds = []
        for _ in range(ROUNDS):  # in turns, so that a busy machine slows all
            rounds.append((answer_tokens_s(llamacpp), answer_tokens_s(embedded), bandwidth_bytes_s()))
            _log.info("llama.cpp %.1f, embedded %.1f tokens/s; %.2e bytes/s", *rounds[-1])
        llamacpp.close()
        embedded.close()
        bytes_gguf = half.stat().st_size
        bytes_fp32 = (full / "model.safetensors").stat().st_size
    ours, theirs, bandwidth = (statistics.median(column) for column in zip(*rounds, strict=True))
    limit = bandwidth / bytes_gguf
    report(
        "bench.decode_bandwidth",
        # Of each round: what else runs on the machine slows both sides of it alike.
        statistics.median(tokens_s * bytes_gguf / bytes_s for tokens_s, _, bytes_s in rounds),
        ours,
        limit,
        "tokens/s",
        {
            "floor": FLOOR,
            "aim": AIM,
            "model": half.name,
            "weights_bytes": bytes_gguf,
            "bandwidth_bytes_s": round(bandwidth),
            "threads": 1,
            "embedded_fp32_tokens_s": round(theirs, 2),
            "embedded_fp32_share": round(theirs / (bandwidth / bytes_fp32), 3),
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
