"""What is kept of the pairs that judged a cross-encoder: from it alone the verdict can be computed again."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from corpus.checks.findings import text_hashes
from jobspecs.kinds.train_reranker import RankingMetric
from jobspecs.manifest import DatasetOrigin
from workers.judging.held_out_file import Column, Judged, Part
from workers.local_models.tokens import Int64s
from workers.training.hard_negatives import Floats
from workers.training.ranking.data import Pairs

OWN, UNTOUCHED, BI_ENCODER, BM25 = "fine-tuned", "untouched base", "bi-encoder", "BM25"
#: What each system is called in metrics and in the file of predictions.
KEYS: Mapping[str, str] = MappingProxyType({OWN: "trained", UNTOUCHED: "base", BI_ENCODER: "bi_encoder", BM25: "bm25"})
_UNITS = {BI_ENCODER: "cosine", BM25: "no unit"}


def judged(
    pairs: Pairs,
    passages: Int64s,
    scores: Mapping[str, Floats],
    metric: RankingMetric,
    part: Part,
    dataset: DatasetOrigin,
) -> Judged:
    """Of scores (N,) of N held-out pairs by system; `passages` (N,) are the numbers that the verdict was given."""
    columns = [
        Column("query", pairs.groups, "number of the pair's query: pairs of one query are put into an order"),
        Column("query_text", text_hashes(pairs.queries), "as `text`, of the query alone"),
        Column("passage", passages, "number of the pair's passage: queries with the same best one are drawn together"),
        Column("label", pairs.labels, "in the data set, 0 to 1"),
    ]
    for system, found in scores.items():
        columns.append(Column(KEYS[system], found, f"score by {system} ({_UNITS.get(system, 'logit')})"))
    texts = text_hashes(map("\0".join, pairs.texts))
    facts = {"metric": metric}
    text = "the query, a null byte and the passage"
    return Judged("train-reranker", part, dataset, pairs.numbers, texts, text, columns, facts, groups=pairs.groups)
