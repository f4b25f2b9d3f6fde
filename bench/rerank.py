"""How soon the best of 200 texts are found: texts scored a second by a served reranker ÷ by sentence-transformers.

Both score the 200 of 1,835 sentences of the UN general debate that MiniLM finds nearest to a query, with the same
cross-encoder on one thread; ours is asked by HTTP, as clients ask it, the library's `CrossEncoder.predict` within this
process. `bench.reranking` has what it saves to score 200 sentences instead of all.

The floor is out of reach in fp32 on a Zen 3, where MKL and OpenBLAS multiply at 89 to 96 GFLOP/s on one core whatever
the shape, oneDNN at 73 to 88. The library's 200 pairs, sorted by characters and padded, are 218, 219 and 258 GFLOP
for the three queries and take it 2.8, 2.8 and 3.5 s of CPU. Ours, without padding and with the last layer for the
first tokens alone, are 140 to 146 GFLOP in 1.9 s. At 94 GFLOP/s and with nothing beside the products they would take
1.5 s: 1.8, 1.9 and 2.2 times the library's speed, 1.9 in the median, which is the figure. What helped: memory that
batches leave to each other (3.1 s before, of which the system took 1.0) and attention in runs of equal length. What
did not: weights packed by oneDNN (80 to 85 GFLOP/s), gelu fused into the product (85 ms instead of 62 for 4,000
rows), attention by plain batched products (9 ms for each layer instead of 8). Left out: keys and values of the last
layer by way of the query, 3 % of the arithmetic.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import CrossEncoder

from bench.measuring import report
from bench.served_engine import ServedEngine, minilm, write_minilm_with_head
from tests.weights import data_path
from workers.local_models.devices import THREADS_VARIABLE, prepare_device
from workers.local_models.embedding_model import load_embedder

QUERIES = (
    "What did small island states say about the rising sea?",
    "Reform of the Security Council",
    "Debt relief for developing countries",
)
#: Every so many-th sentence is looked at: vectors of all 18,342 take minutes, and are not what is measured.
EVERY = 10
TOP = 200
ROUNDS = 3
FLOOR = 2.0
#: Largest difference of a score, 0 to 1, that padding and the order of sums may make.
_SAME = 1e-4

_log = logging.getLogger("bench.rerank")


def nearest() -> dict[str, list[str]]:
    """Query -> the TOP sentences nearest to it, the nearest first."""
    sentences: list[str] = json.loads(data_path("un-sentences.json").read_text(encoding="utf-8"))[::EVERY]
    embedder = load_embedder(minilm())
    similarities = embedder.encode(list(QUERIES)) @ embedder.encode(sentences).T
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :TOP]
    return {query: [sentences[place] for place in places] for query, places in zip(QUERIES, order, strict=True)}


def by_engine(engine: ServedEngine, query: str, texts: list[str]) -> tuple[float, list[float]]:
    """Seconds, and the score of each text."""
    begun = time.perf_counter()
    answer = engine.client.post("/rerank", json={"query": query, "texts": texts}).raise_for_status().json()
    took_s = time.perf_counter() - begun
    return took_s, [row["score"] for row in sorted(answer, key=lambda row: int(row["index"]))]


def by_library(model: CrossEncoder, query: str, texts: list[str]) -> tuple[float, list[float]]:
    """As `by_engine`."""
    begun = time.perf_counter()
    scores = model.predict([(query, text) for text in texts], show_progress_bar=False)
    return time.perf_counter() - begun, [float(score) for score in scores]


def main() -> int:
    """Prints the figure."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    os.environ[THREADS_VARIABLE] = "1"
    prepare_device()
    pools = nearest()
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_minilm_with_head(Path(scratch) / "reranker", 1)
        engine = ServedEngine("embedded", "text-ranking", folder, Path(scratch) / "logs")
        library = CrossEncoder(str(folder), device="cpu")
        rounds = []
        for turn in range(ROUNDS + 1):  # in turns, so that a busy machine slows both
            for query, texts in pools.items():
                (ours, scores), (theirs, expected) = by_engine(engine, query, texts), by_library(library, query, texts)
                if np.abs(np.subtract(scores, expected)).max() > _SAME:
                    raise SystemExit(f"the scores for {query!r} are not the library's")
                if turn:  # the first warms up both
                    rounds.append((ours, theirs))
                    _log.info("%.3f s, sentence-transformers %.3f s", ours, theirs)
        engine.close()
    ours, theirs = (TOP / statistics.median(column) for column in zip(*rounds, strict=True))
    report(
        "bench.rerank",
        statistics.median(theirs / ours for ours, theirs in rounds),
        ours,
        theirs,
        "texts/s",
        {
            "floor": FLOOR,
            "texts": TOP,
            "queries": len(QUERIES),
            "rounds": ROUNDS,
            "words_mean": round(float(np.mean([len(text.split()) for texts in pools.values() for text in texts])), 1),
            "threads": torch.get_num_threads(),
            "model": "MiniLM-L6 as cross-encoder",
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
