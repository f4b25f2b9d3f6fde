"""How fast one answer grows in llama.cpp, as a share of what the memory's bandwidth allows.

Each token needs every weight once, so no engine writes more tokens a second than the bandwidth divided by the weights'
bytes. The bandwidth is measured in the same run: the best of several sums over an array larger than the caches, on as
many threads as the engine has. The embedded engine in fp32 stands beside it, against its own four times larger weights.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bench.measuring import report
from jobspecs.manifest import Manifest, describe_files, write_manifest
from tests.weights import smollm2_gguf
from workers.engines.interface import EngineOrder
from workers.engines.registry import ENGINES
from workers.inference.replicas import ReplicaSet
from workers.local_models.gguf_model import load_gguf, write_language_model

FLOOR, AIM = 0.6, 0.85
KEY = "the-key-of-this-bench"
TOKENS = 64
ROUNDS = 5
_ARRAY_BYTES = 512 << 20
_PROMPT = "Once upon a time"

_log = logging.getLogger("bench.decode_bandwidth")


def bandwidth_bytes_s() -> float:
    """Bytes a second that one thread reads from memory: the best of several passes over an array."""
    array = np.ones(_ARRAY_BYTES // 8)
    best_s = min(_seconds(array.sum) for _ in range(5))
    return _ARRAY_BYTES / best_s


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


class Served:
    """A model in an engine's process of one thread."""

    def __init__(self, engine: str, folder: Path, logs: Path) -> None:
        manifest = Manifest(artifact="model", task="text-generation", files=describe_files(folder))
        write_manifest(folder, manifest)
        self._engine = ENGINES[engine](logs)
        order = EngineOrder("bench/model@1", "text-generation", folder, manifest.digest, 0, KEY)
        self._replicas = ReplicaSet(self._engine, order, 1)
        self._replicas.tick(time.monotonic())
        while not self._replicas.ready:
            if self._replicas.failure is not None:
                sys.exit(self._replicas.failure.message)
            self._replicas.tick(time.monotonic())
            time.sleep(0.05)

    def tokens_s(self) -> float:
        """Tokens a second of one answer, from its first token to its last."""
        body = {"prompt": _PROMPT, "max_tokens": TOKENS, "temperature": 0, "stream": True, "ignore_eos": False}
        arrivals = []
        headers = {"Authorization": f"Bearer {KEY}"}
        url = f"{self._replicas.endpoint}/v1/completions"
        with httpx.stream("POST", url, json=body, headers=headers, timeout=300) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {") and json.loads(line[6:])["choices"][0]["text"]:
                    arrivals.append(time.perf_counter())
        return (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])

    def close(self) -> None:
        self._replicas.stop(time.monotonic())
        while not self._replicas.stopped:
            self._replicas.tick(time.monotonic())
            time.sleep(0.05)
        self._engine.close()


def main() -> int:
    """Prints the figure."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        weights, quantized = smollm2_gguf(), root / "gguf"
        quantized.mkdir()
        (quantized / weights.name).write_bytes(weights.read_bytes())
        full = root / "fp32"
        converted = load_gguf(weights, "fp32")
        write_language_model(full, converted.model, converted.tokenizer)
        llamacpp, embedded = Served("llamacpp", quantized, root / "logs"), Served("embedded", full, root / "logs")
        rounds = []
        for _ in range(ROUNDS):  # in turns, so that a busy machine slows all
            rounds.append((llamacpp.tokens_s(), embedded.tokens_s(), bandwidth_bytes_s()))
            _log.info("llama.cpp %.1f, embedded %.1f tokens/s; %.2e bytes/s", *rounds[-1])
        llamacpp.close()
        embedded.close()
        bytes_gguf = weights.stat().st_size
        bytes_fp32 = (full / "model.safetensors").stat().st_size
    # The best of each: whatever else runs on the machine can only slow them.
    ours, theirs, bandwidth = (max(column) for column in zip(*rounds, strict=True))
    limit = bandwidth / bytes_gguf
    report(
        "bench.decode_bandwidth",
        ours / limit,
        ours,
        limit,
        "tokens/s",
        {
            "floor": FLOOR,
            "aim": AIM,
            "model": weights.name,
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
