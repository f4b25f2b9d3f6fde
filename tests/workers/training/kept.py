"""Reads what a model version keeps of its held-out rows, as anybody would who has the artifact alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from corpus.bootstrap import no_stop
from jobspecs.manifest import read_manifest
from workers.judging import llm_verdict, verdict
from workers.judging.class_metrics import Predictions, predictions_of
from workers.judging.embedding_verdict import Exam, Search
from workers.judging.llm_verdict import HeldOut, LlmVerdict
from workers.judging.ranking_verdict import RankingVerdict, judge_correlations, judge_rankings
from workers.judging.search import MEASURES, Listed


class Kept:
    """The file below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.table = pq.read_table(folder / "evaluation" / "held-out.parquet")
        self.facts: dict[str, Any] = json.loads(self.table.schema.metadata[b"eigenwerk"])

    def __getitem__(self, column: str) -> Any:
        """(N,) the values of a column, or (N, C)."""
        return np.array(self.table[column].to_pylist())

    def get(self, column: str) -> Any:
        """As above, or None without such a column."""
        return self[column] if column in self.table.column_names else None

    def places(self, column: str) -> Any:
        """(N,) where each label of the column stands among the classes."""
        return np.array([self.facts["classes"].index(label) for label in self.table[column].to_pylist()])


def assert_told_again(folder: Path) -> None:
    """Every figure of the version's verdict is that of its kept predictions, to 12 digits, and each column is told."""
    kept, report = Kept(folder), read_manifest(folder).report
    assert set(kept.facts["columns"]) == set(kept.table.column_names)
    assert report["held_out"]["rows"] == report["held_out"]["judged"] == kept.table.num_rows
    again = _AGAIN[kept.facts["kind"]](kept).as_json()
    assert _closely(json.loads(json.dumps(again)), report["verdict"]), (again, report["verdict"])


def _classified(kept: Kept) -> verdict.Verdict:
    baselines = {
        "TF-IDF + linear SVM": Predictions(kept.places("svm"), kept.get("svm_score")),
        "majority class": Predictions(kept.places("majority")),
    }
    found = predictions_of(kept["probabilities"].astype(np.float32))
    largest = int(kept.places("majority")[0])
    facts = kept.facts
    return verdict.judge(kept.places("label"), facts["classes"], found, baselines, facts["metric"], largest=largest)


def _embedded(kept: Kept) -> RankingVerdict:
    if kept.facts["metric"] == "spearman":
        names = {"trained": "trained", "base model": "base", "TF-IDF cosine": "tf_idf"}
        scores = {name: kept[key] for name, key in names.items()}
        return judge_correlations(kept["score"].astype(np.float64), scores, no_stop, kept["cluster"])
    names = {"trained": "trained", "base model": "base", "BM25": "bm25"}
    answers = {
        name: np.stack([kept[f"{key}_{measure}"] for measure in MEASURES], axis=1) for name, key in names.items()
    }
    questions = kept.table.num_rows
    search = Search(Listed(()), np.zeros(questions, dtype=np.int64), kept.get("cluster"))
    candidates = [""] * kept.facts["candidates"]
    return Exam([""] * questions, candidates, ("", ""), search, kept["row"]).judge(answers)


def _ranked(kept: Kept) -> RankingVerdict:
    names = {"fine-tuned": "trained", "untouched base": "base", "bi-encoder": "bi_encoder", "BM25": "bm25"}
    scores = {name: kept[key] for name, key in names.items() if key in kept.table.column_names}
    return judge_rankings(kept["label"], kept["query"], kept["passage"], scores, kept.facts["metric"])


def _spoken(kept: Kept) -> LlmVerdict:
    wanted = kept.get("desirable")
    if wanted is None or not wanted.any():
        wanted = np.ones(kept.table.num_rows, dtype=bool)
    before, after, tokens = (kept[name][wanted] for name in ("base_log_prob", "log_prob", "tokens"))
    return llm_verdict.judge(HeldOut(before, after, tokens), kept.get("reward"))


_AGAIN: dict[str, Callable[[Kept], Any]] = {
    "train-classifier": _classified,
    "train-embedder": _embedded,
    "train-reranker": _ranked,
    "finetune-llm": _spoken,
}


def _closely(found: Any, told: Any) -> bool:
    """Whether two documents hold the same words and, to 12 digits, the same figures."""
    if isinstance(told, dict):
        return set(found) == set(told) and all(_closely(found[key], told[key]) for key in told)
    if isinstance(told, list | tuple):
        return len(found) == len(told) and all(_closely(one, other) for one, other in zip(found, told, strict=True))
    if isinstance(told, float):
        return bool(np.isclose(found, told, rtol=1e-12, atol=1e-12))
    return bool(found == told)
