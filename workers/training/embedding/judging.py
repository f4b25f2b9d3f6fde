"""What is kept of the rows that judged an embedder: from it alone the verdict can be computed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy.typing as npt

from corpus.checks.findings import text_hashes
from jobspecs.manifest import DatasetOrigin
from workers.judging.embedding_verdict import BASE, BM25, TF_IDF, TRAINED, Exam, Search
from workers.judging.held_out_file import Column, Judged, Part
from workers.judging.ranking_verdict import numbered
from workers.judging.search import MEASURES

Answers = npt.NDArray[Any]
#: What each system is called in the file of predictions.
KEYS: Mapping[str, str] = MappingProxyType({TRAINED: "trained", BASE: "base", BM25: "bm25", TF_IDF: "tf_idf"})


def judged(
    exam: Exam,
    answers: Mapping[str, Answers],
    by_dimensions: Mapping[int, Answers],
    metric: str,
    part: Part,
    dataset: DatasetOrigin,
) -> Judged:
    """Of each system's answers, and of those of the first so many dimensions of the trained one."""
    search = exam.truth if isinstance(exam.truth, Search) else None
    pairs = zip(exam.queries, exam.candidates, strict=search is None)
    texts = exam.queries if search is not None else ["\0".join(sorted(pair)) for pair in pairs]
    clusters = numbered(exam.queries) if search is None else search.clusters
    columns = [Column("score", exam.truth, "in the data set, 0 to 1")] if search is None else []
    if clusters is not None:
        shared = "pairs with the same first text" if search is None else "questions that look for the same text"
        columns.append(Column("cluster", clusters, f"the same for {shared}, which are drawn together"))
    for system, found in answers.items():
        columns += _columns(KEYS[system], system, found)
    for dimensions, found in by_dimensions.items():
        columns += _columns(f"{KEYS[TRAINED]}_dim{dimensions}", f"{TRAINED}, first {dimensions} dimensions", found)
    facts = {"metric": metric} if search is None else {"metric": metric, "candidates": len(exam.candidates)}
    text = (
        "the question" if search is not None else "the two texts in the order of their code points, a null byte between"
    )
    return Judged(
        "train-embedder", part, dataset, exam.numbers, text_hashes(texts), text, columns, facts, groups=clusters
    )


def _columns(key: str, system: str, found: Answers) -> Iterator[Column]:
    if found.ndim == 1:
        yield Column(key, found, f"cosine of the two texts by: {system}")
        return
    for place, measure in enumerate(MEASURES):
        yield Column(f"{key}_{measure}", found[:, place], f"of this question over all candidates, 0 to 1, by: {system}")
